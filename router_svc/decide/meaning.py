"""What a text means, next to examples of what is known: of each kind, easy and hard."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import yaml

from router_svc.catalogue.kinds import Kind
from router_svc.decide.ports import Embedder, Vector

_logger = logging.getLogger(__name__)

# How fast "nearer to the hard ones" becomes certain, per unit of cosine.
_STEEPNESS = 12.0
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts of which it is known what they are."""

    kinds: Mapping[Kind, Sequence[str]]
    easy: Sequence[str]
    hard: Sequence[str]


@dataclass(frozen=True, slots=True)
class Centroids:
    """Directions of the examples' means, each of length 1."""

    kinds: tuple[Kind, ...]
    directions: Vector
    easy: Vector
    hard: Vector


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text means.

    Attributes:
        vector: Its embedding, of length 1.
        nearness: Cosine to the examples of each kind; None while these are not known.
        hardness: How much it is like the hard examples rather than the easy ones, 0 to
            1; None likewise.
    """

    vector: Vector
    nearness: Mapping[Kind, float] | None = None
    hardness: float | None = None


class Meanings:
    """Finds what texts mean.

    Args:
        embedder: Turns texts into vectors, in time or not at all.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._centroids: Centroids | None = None

    async def prepare(self, examples: Examples, embedder: Embedder) -> None:
        """Learns the examples by a patient embedder; tries until it answers."""
        # What is awaited is another process, which sets no event here.
        while (found := await _centroids_of(examples, embedder)) is None:  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)
        self._centroids = found
        _logger.info("examples of kinds and of difficulty are known")

    async def of(self, text: str) -> Meaning | None:
        """Returns what `text` means; None when that cannot be had in time."""
        vector = await self._embedder.embed(text)
        if vector is None:
            return None
        known = self._centroids
        # The service may have got another model since the examples were learnt.
        if known is None or known.directions.shape[1] != len(vector):
            return Meaning(vector)
        nearness = dict(zip(known.kinds, (known.directions @ vector).tolist(), strict=True))
        lead = float((known.hard - known.easy) @ vector)
        return Meaning(vector, nearness, float(1 / (1 + np.exp(-_STEEPNESS * lead))))


async def _centroids_of(examples: Examples, embedder: Embedder) -> Centroids | None:
    means = []
    for group in (*examples.kinds.values(), examples.easy, examples.hard):
        vectors = [await embedder.embed(text) for text in group]
        found = [vector for vector in vectors if vector is not None]
        if len(found) < len(group):
            return None
        mean: Vector = np.stack(found).mean(axis=0)
        means.append(mean / np.float32(np.linalg.norm(mean)))
    return Centroids(
        kinds=tuple(examples.kinds),
        directions=np.stack(means[:-2]),
        easy=means[-2],
        hard=means[-1],
    )


def packaged_examples() -> Examples:
    """Returns the examples that come with the package."""
    text = resources.files("router_svc.decide").joinpath("examples.yaml").read_text("utf-8")
    data = yaml.safe_load(text)
    return Examples(
        kinds={Kind(name): texts for name, texts in data["kinds"].items()},
        easy=data["easy"],
        hard=data["hard"],
    )
