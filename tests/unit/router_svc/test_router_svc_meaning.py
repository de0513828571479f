"""What texts mean, next to examples."""

import numpy as np

from router_svc.catalogue.kinds import Kind
from router_svc.decide.meaning import Examples, Meanings
from router_svc.decide.ports import Vector

EXAMPLES = Examples({Kind.CODE: ["code"], Kind.CHAT: ["chat"]}, easy=["chat"], hard=["code"])
DIRECTIONS = {"code": [1.0, 0.0], "chat": [0.0, 1.0]}


class Embedder:
    """Knows two texts; another model of it has one dimension more."""

    def __init__(self) -> None:
        self.more: list[float] = []

    async def embed(self, text: str) -> Vector | None:
        return np.array([*DIRECTIONS[text], *self.more], dtype=np.float32)


async def test_a_meaning_by_another_model_is_not_compared_with_the_examples() -> None:
    embedder = Embedder()
    meanings = Meanings(embedder)
    await meanings.prepare(EXAMPLES, embedder)
    known = await meanings.of("code")
    assert known is not None
    assert known.nearness == {Kind.CODE: 1.0, Kind.CHAT: 0.0}
    embedder.more = [0.0]
    other = await meanings.of("code")
    assert other is not None
    assert (other.nearness, other.hardness) == (None, None)
