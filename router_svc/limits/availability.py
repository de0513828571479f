"""Tells decisions which models are at their limit."""

from dataclasses import replace

from router_svc.catalogue.models import Model
from router_svc.decide.ports import Availability
from router_svc.decide.records import Standing
from router_svc.limits.limits import ModelLimits


class LimitedAvailability:
    """An `Availability` in which a model rests while it is at its limit.

    Args:
        availability: How models stand otherwise.
        limits: Know who is at a limit.
    """

    def __init__(self, availability: Availability, limits: ModelLimits) -> None:
        self._availability = availability
        self._limits = limits

    def of(self, model: Model) -> Standing:
        """See `Availability`."""
        standing = self._availability.of(model)
        if standing.resting or not (resting := self._limits.resting(model)):
            return standing
        return replace(standing, resting=resting)
