"""Model steps from the client to the provider: executor, worker, router, simulated providers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

from stepwire.api.executor.v1 import graph_pb2, task_pb2
from stepwire.api.router.v1 import budget_pb2, budget_service_pb2, usage_service_pb2
from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceStub
from stepwire.api.router.v1.requirements_pb2 import CACHE_MODE_EXACT, CacheControl
from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceStub
from stepwire.sdk.graph import graph, model
from stepwire.sdk.policies import retry_policy
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.fleet import (
    EndpointPlan,
    Fleet,
    ModelPlan,
    SimulatedEndpoint,
    Turn,
    running_fleet,
)
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.executor_mesh import Client, Mesh, output_of, state_of, steps_of
from tests.integration.router_svc.extract_service import ExtractService, extract_service
from tests.integration.router_svc.running_router import DEAR, QUOTES, chat_model, router_channel

QUESTION = "How much did the river rise?"
# What a call of the model `cheap` that writes so much can cost at most is less than LIMIT, and more
# than what is left of it after one.
TOKENS, LIMIT = 20, 100
SCHEMA = {
    "type": "object",
    "properties": {"metres": {"type": "number"}},
    "required": ["metres"],
    "additionalProperties": False,
}
ONCE = retry_policy(max_attempts=1)


@dataclass(frozen=True)
class House:
    """What is behind the worker: a router, what it calls, and its accounts."""

    fleet: Fleet
    model_service: ExtractService
    channel: grpc.aio.Channel

    @property
    def cheap(self) -> SimulatedEndpoint:
        return self.fleet["cheap"]

    async def set_budget(self, tenant: str, project: str, limit: int) -> None:
        config = budget_pb2.BudgetConfig(
            limit_micro_usd=limit,
            period=budget_pb2.BUDGET_PERIOD_TOTAL,
            scope=budget_pb2.BudgetScope(project=project),
            on_exhausted=budget_pb2.BUDGET_ACTION_REFUSE,
        )
        request = budget_service_pb2.CreateBudgetRequest(name=project, config=config)
        await BudgetServiceStub(self.channel).CreateBudget(request, metadata=_of(tenant))

    async def spent(self, tenant: str, project: str) -> int:
        """Returns what was spent, once nothing is held any more."""
        request = budget_service_pb2.GetBudgetRequest(name=project)
        stub = BudgetServiceStub(self.channel)

        async def account() -> budget_pb2.BudgetAccount | None:
            found = (await stub.GetBudget(request, metadata=_of(tenant))).budget.account
            return None if found.reserved_micro_usd else found

        settled = await eventually(account)
        assert settled is not None
        return settled.spent_micro_usd

    async def used(self, tenant: str, *, calls: int) -> list[usage_service_pb2.UsageSum]:
        """Returns what a tenant has used, step by step, once so many calls are written down."""
        request = usage_service_pb2.GetUsageRequest(
            group_by=[
                usage_service_pb2.USAGE_GROUP_PROJECT,
                usage_service_pb2.USAGE_GROUP_TASK,
                usage_service_pb2.USAGE_GROUP_STEP,
            ]
        )
        stub = UsageServiceStub(self.channel)

        async def written() -> list[usage_service_pb2.UsageSum] | None:
            sums = list((await stub.GetUsage(request, metadata=_of(tenant))).sums)
            return sums if sum(each.calls for each in sums) >= calls else None

        found = await eventually(written)
        assert found is not None
        assert sum(each.calls for each in found) == calls
        return found


def _of(tenant: str) -> tuple[tuple[str, str], ...]:
    return (("x-tenant-id", tenant),)


@pytest.fixture(scope="module")
async def whole_house(
    shared_mesh: Mesh, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """A router where the shared worker looks for one."""
    plans = [
        EndpointPlan(name=name, models=(ModelPlan(name=f"their-{name}"),))
        for name in ("cheap", "dear")
    ]
    async with AsyncExitStack() as stack:
        url = stack.enter_context(fresh_database(postgres))
        fleet = await stack.enter_async_context(running_fleet(*plans))
        service = await stack.enter_async_context(extract_service())
        channel = await stack.enter_async_context(
            router_channel(
                tmp_path_factory.mktemp("router"),
                _model(fleet["cheap"], quality=0.6),
                _model(fleet["dear"], quality=0.9, prices=[DEAR]),
                QUOTES,
                model_target=service.target,
                port=shared_mesh.router_port,
                breaker_failures=1_000,
                postgres_url=url,
            )
        )
        yield House(fleet, service, channel)


def _model(endpoint: SimulatedEndpoint, **fields: Any) -> dict[str, Any]:
    return chat_model(endpoint.plan.name, endpoint.base_url, capabilities=["json"], **fields)


@pytest.fixture
def house(whole_house: House) -> House:
    whole_house.model_service.time_left.clear()
    for endpoint in whole_house.fleet.endpoints.values():
        endpoint.reset()
    return whole_house


def asking(**fields: Any) -> graph_pb2.Graph:
    """A graph of one step that asks for what the task is about."""
    return graph(model("ask", input="input", **{"retry": ONCE, **fields}))


def failure_of(task: task_pb2.Task) -> Any:
    assert state_of(task) == "FAILED", task
    return steps_of(task)["ask"].failure


async def test_a_project_pays_for_its_steps_and_is_refused_when_it_has_nothing_left(
    house: House, client: Client
) -> None:
    await house.set_budget(client.tenant, "atlas", LIMIT)
    what = asking(project="atlas", max_output_tokens=TOKENS)
    paid = await client.run(what, QUESTION)
    cost = output_of(paid)["usage"]["cost_micro_usd"]
    assert 0 < cost < LIMIT
    assert await house.spent(client.tenant, "atlas") == cost
    refused = failure_of(await client.run(what, QUESTION))
    assert refused.reason == "BUDGET_EXHAUSTED"
    assert refused.metadata["budget"] == "atlas"
    # What belongs to another project, or to none, is not the budget's affair.
    free = await client.run(asking(max_output_tokens=TOKENS), QUESTION)
    assert output_of(free)["usage"]["cost_micro_usd"] == cost
    used = {each.task_id: each for each in await house.used(client.tenant, calls=2)}
    assert used.keys() == {paid.task_id, free.task_id}
    for task, project in ((paid, "atlas"), (free, "")):
        each = used[task.task_id]
        assert (each.project, each.step_id, each.cost_micro_usd) == (project, "ask", cost)


async def test_each_item_is_accounted_for_by_its_own_name(house: House, client: Client) -> None:
    step = model("ask", for_each="input", input="item", project="atlas")
    task = await client.run(graph(step), [QUESTION, "And in May?"])
    used = await house.used(client.tenant, calls=2)
    assert [each.step_id for each in used] == ["ask[0]", "ask[1]"]
    assert {(each.project, each.task_id) for each in used} == {("atlas", task.task_id)}


async def test_the_quality_asked_for_decides_on_another_model(house: House, client: Client) -> None:
    for asked, chosen in ((0.0, "cheap"), (0.8, "dear")):
        task = await client.run(asking(min_quality=asked), QUESTION)
        assert output_of(task)["model"] == chosen
        assert len(house.fleet[chosen].seen) == 1
    failure = failure_of(await client.run(asking(min_quality=0.95, retry=None), QUESTION))
    assert failure.reason == "NO_ELIGIBLE_MODEL"


async def test_the_same_question_is_answered_once_where_a_step_lets_it(
    house: House, client: Client
) -> None:
    cached = asking(cache=CacheControl(mode=CACHE_MODE_EXACT), project="atlas")
    first, again = [output_of(await client.run(cached, QUESTION)) for _ in range(2)]
    assert house.cheap.account.totals.requests == 1
    assert (again["text"], again["model"]) == (first["text"], first["model"])
    assert first["usage"]["cost_micro_usd"] > again["usage"]["cost_micro_usd"] == 0
    anew = output_of(await client.run(asking(), QUESTION))
    assert house.cheap.account.totals.requests == 2
    assert anew["usage"]["cost_micro_usd"] == first["usage"]["cost_micro_usd"]
    used = await house.used(client.tenant, calls=3)
    assert sorted((each.project, each.cached, each.cost_micro_usd > 0) for each in used) == [
        ("", 0, True),
        ("atlas", 0, True),
        ("atlas", 1, False),
    ]


async def test_an_answer_by_a_schema_is_a_value(house: House, client: Client) -> None:
    house.cheap.then(Turn(text='{"metres": "two"}'), Turn(text='{"metres": 2}'))
    what = asking(json_schema=SCHEMA, model="cheap")
    output = output_of(await client.run(what, QUESTION))
    # The model was told once what was wrong.
    assert (output["json"], house.cheap.account.totals.requests) == ({"metres": 2}, 2)
    (used,) = await house.used(client.tenant, calls=2)
    # The output tells of the answer, the account of both.
    assert 0 < output["usage"]["cost_micro_usd"] < used.cost_micro_usd
    # Cut short, it is no value.
    house.cheap.then(Turn(text='{"metres": 2.25 }'))
    cut = output_of(
        await client.run(asking(json_schema=SCHEMA, model="cheap", max_output_tokens=1), QUESTION)
    )
    assert (cut["json"], cut["text"]) == (None, '{"metres":')
    # One that does not fit ends the step, and is not asked for again.
    house.cheap.reset()
    house.cheap.then(*[Turn(text="It rose.")] * 9)
    failure = failure_of(
        await client.run(asking(json_schema=SCHEMA, model="cheap", retry=None), QUESTION)
    )
    assert failure.reason == "ANSWER_OFF_SCHEMA"
    assert house.cheap.account.totals.requests == 2


async def test_a_step_s_time_is_the_providers_time(house: House, client: Client) -> None:
    document = {"id": "report", "text": "The river rose by a metre in June."}
    value = {"prompt": QUESTION, "documents": [document]}
    for seconds in (10, 40):
        what = asking(model="quotes", timeout=timedelta(seconds=seconds))
        assert output_of(await client.run(what, value))["citations"][0]["document_id"] == "report"
    short, long = house.model_service.time_left
    assert short is not None
    assert long is not None
    assert 0 < short < 10 < long < 40
    # When it is over, so is the provider's work; the step says that its time was too short.
    house.cheap.fail("hang")
    what = asking(model="cheap", timeout=timedelta(seconds=1))
    failure = failure_of(await client.run(what, QUESTION))
    assert (failure.reason, failure.metadata["timeout_seconds"]) == ("STEP_TIMED_OUT", "1")
    await eventually(lambda: house.cheap.account.totals.abandoned == 1)


async def test_a_step_that_is_cancelled_ends_the_providers_work(
    house: House, client: Client
) -> None:
    house.cheap.fail("hang")
    task_id = await client.create(asking(model="cheap"), QUESTION)
    await eventually(lambda: house.cheap.account.totals.in_flight == 1)
    await client.cancel(task_id)
    await eventually(lambda: house.cheap.account.totals.abandoned == 1)
    assert state_of(await client.wait(task_id)) == "CANCELLED"
