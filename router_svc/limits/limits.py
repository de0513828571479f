"""All limits of models together. See `generate.ports.Limits`."""

from router_svc.catalogue.models import Model
from router_svc.generate.ports import Lease, Slot
from router_svc.generate.records import Caller
from router_svc.limits.limiter import RateLimits
from router_svc.limits.own import OwnSlots
from router_svc.limits.sharing import SharedSlots


class ModelLimits:
    """Keeps calls within what models may be asked for.

    Args:
        rates: In a minute.
        shared: At once, from all instances together; None to keep to that by itself.
    """

    def __init__(self, rates: RateLimits, shared: SharedSlots | None = None) -> None:
        self._rates = rates
        self._shared = shared
        self._own = OwnSlots()

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Lease:
        """See `Limits`."""
        return await self._rates.lease(caller, model, tokens=tokens)

    async def slot(self, model: Model) -> Slot:
        """See `Limits`."""
        if self._shared is None or model.limits.concurrency is None:
            return await self._own.slot(model)
        return await self._shared.slot(model)

    def resting(self, model: Model) -> str:
        """Returns at which limit a model is known to be; empty when it is at none."""
        return self._rates.resting(model)
