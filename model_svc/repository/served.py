"""A version of a model that is served, and who uses it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_svc.generation.ports import TextGenerator
from model_svc.ports import Model, TextModel
from model_svc.tensors import TensorSpec
from stepwire.api.inference import model_config_pb2 as pb


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: The version, a positive whole number.
        model: What runs it.
        inputs: The tensors that it can be given, as its configuration narrows them.
        outputs: The tensors that it gives, likewise.
        text: The same as `model`, if it reads texts.
        generator: The same as `model`, if it writes texts.
        config: Its configuration, with what was left out.
        max_rows: Most rows of one call; 0 for no limit.
    """

    name: str
    version: str
    model: Model
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    text: TextModel | None = None
    generator: TextGenerator | None = None
    config: pb.ModelConfig = field(default_factory=pb.ModelConfig)
    max_rows: int = 0


class Lent:
    """A served model that is closed once nobody uses it any more.

    `with lent as served` uses it: it is not closed before the block ends. To be used from
    one event loop.
    """

    def __init__(self, served: ServedModel) -> None:
        self.served = served
        self._users = 0
        self._free = asyncio.Event()
        self._free.set()

    def __enter__(self) -> ServedModel:
        self._users += 1
        self._free.clear()
        return self.served

    def __exit__(self, *failure: object) -> None:
        self._users -= 1
        if self._users == 0:
            self._free.set()

    async def close(self) -> None:
        """Waits until nobody uses the model, and closes it.

        Nobody may begin to use it meanwhile.
        """
        await self._free.wait()
        await self.served.model.close()
