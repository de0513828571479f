"""Slots that this process has by itself."""

import time

from router_svc.catalogue.models import Model
from router_svc.limits.slots import HeldSlot, ModelSlots

OWN_SLOTS = 64
"""How many calls of a model may be under way here where its entry does not say how many."""


class OwnSlots:
    """Slots of models whose concurrency is not shared."""

    def __init__(self) -> None:
        self._models: dict[str, ModelSlots] = {}

    async def slot(self, model: Model) -> HeldSlot:
        """See `Limits`."""
        most = model.limits.concurrency or OWN_SLOTS
        slots = self._models.get(model.name)
        if slots is None:
            slots = self._models[model.name] = ModelSlots(
                model.name, most, time.monotonic, lambda _: None
            )
            slots.hold_for_ever()
        if slots.most != most:
            slots.most = most
            slots.hold_for_ever()
        return await slots.slot(model.timeout_seconds)
