"""Names of what stands in the broker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topology:
    """The broker's queues and exchanges of one installation.

    Attributes:
        namespace: prefix of every name, so that installations can share a broker.
    """

    namespace: str = "stepwire"

    def queue(self, queue: str) -> str:
        """Name of the Dramatiq queue in which the steps of `queue` wait."""
        return f"{self.namespace}.{queue}"

    def actor(self, queue: str) -> str:
        """Name of the Dramatiq actor that takes the steps of `queue`."""
        return f"{self.namespace}.run_steps.{queue}"

    @property
    def events(self) -> str:
        """Name of the topic exchange that carries the events of tasks."""
        return f"{self.namespace}.events"
