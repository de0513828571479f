"""Several simulated servers together."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from stepwire.testing.fleet.endpoint import SimulatedEndpoint
from stepwire.testing.fleet.plan import EndpointPlan, FleetPlan


class Fleet:
    """The running servers, by name."""

    def __init__(self, endpoints: dict[str, SimulatedEndpoint]) -> None:
        self.endpoints = endpoints

    def __getitem__(self, name: str) -> SimulatedEndpoint:
        return self.endpoints[name]


@asynccontextmanager
async def running_fleet(*plans: EndpointPlan | str, seed: int = 1) -> AsyncIterator[Fleet]:
    """Runs the servers for the block; a text is the name of one that has no faults."""
    plan = FleetPlan(
        seed=seed,
        endpoints=tuple(
            EndpointPlan(name=each) if isinstance(each, str) else each for each in plans
        ),
    )
    async with run_plan(plan) as fleet:
        yield fleet


@asynccontextmanager
async def run_plan(plan: FleetPlan) -> AsyncIterator[Fleet]:
    """Runs the servers of a plan for the block."""
    async with AsyncExitStack() as stack:
        endpoints = {
            each.name: await stack.enter_async_context(SimulatedEndpoint(each, seed=plan.seed))
            for each in plan.endpoints
        }
        yield Fleet(endpoints)
