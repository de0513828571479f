"""P9 broken: events get lost on their way, and watchers are not told."""

import itertools

from executor_svc.tasks.events import FINAL, EventHub, parse_events
from executor_svc.tasks.watching import Watches

LOST = 5


def apply():
    deliver = EventHub.deliver
    numbers = itertools.count()

    def deliver_most(self, batches):
        deliver(self, [batch for batch in batches if next(numbers) % LOST])

    async def live(self, batches, cursor):
        while (batch := await batches.get()) is not None:
            for event in parse_events(batch):
                if event.cursor > cursor:
                    yield event
                    cursor = event.cursor
                    if event.type in FINAL:
                        return

    EventHub.deliver = deliver_most
    Watches._live = live
