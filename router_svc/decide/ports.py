"""What decisions need of the world."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router_svc.catalogue.models import Model
from router_svc.decide.records import Decision, Left, Standing
from router_svc.requests.records import Request

Vector = NDArray[np.float32]


class Availability(Protocol):
    """Knows how models stand; asked in memory, within microseconds."""

    def of(self, model: Model) -> Standing:
        """Returns how `model` stands now."""
        ...


class Allowance(Protocol):
    """Knows what budgets have left; asked in memory, so that it may be a little behind."""

    def left(self, request: Request, model: Model) -> Left | None:
        """Returns what the caller may still spend on `model`; None when nothing limits it."""
        ...


class Embedder(Protocol):
    """Turns a text into a vector that tells its meaning."""

    async def embed(self, text: str) -> Vector | None:
        """Returns the vector of `text`, of length 1; None when it cannot be had in time."""
        ...


class Predictor(Protocol):
    """Predicts how well models would answer, from what was reported of earlier answers."""

    @property
    def version(self) -> int:
        """Which one it is; above 0."""
        ...

    def predict(self, features: Vector, meaning: Vector) -> Mapping[str, float]:
        """Returns, for each model that it knows, how good its answer would be, 0 to 1."""
        ...


class Journal(Protocol):
    """Remembers decisions, so that an outcome reported later can be learnt from."""

    def decided(self, decision: Decision, request: Request, meaning: Vector | None) -> None:
        """Notes a decision. Returns at once, and never raises."""
        ...


class AlwaysReady:
    """An `Availability` of which nothing is known."""

    def of(self, model: Model) -> Standing:
        """See `Availability`."""
        del model
        return Standing()


class Unlimited:
    """An `Allowance` without budgets."""

    def left(self, request: Request, model: Model) -> Left | None:
        """See `Allowance`."""
        del request, model
        return None


class Forgetful:
    """A `Journal` that remembers nothing."""

    def decided(self, decision: Decision, request: Request, meaning: Vector | None) -> None:
        """See `Journal`."""
