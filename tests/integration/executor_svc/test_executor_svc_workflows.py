"""Workflows through the service: registered, read, listed, deprecated, deleted, checked."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from stepwire.api.executor.v1 import workflow_service_pb2 as pb
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_mesh import (
    Client,
    Mesh,
    chain,
    graph,
    refused,
    transform,
)
from tests.integration.executor_svc.workflow_client import WorkflowClient, workflow_client


@pytest.fixture
async def workflows(shared_mesh: Mesh, client: Client) -> AsyncIterator[WorkflowClient]:
    """The workflows of the tenant of `client`."""
    async with workflow_client(shared_mesh.server.address, client.tenant) as workflows:
        yield workflows


async def use(mesh: Mesh, tenant: str, name: str, version: str) -> None:
    """Mark a version as used."""
    async with mesh.connection() as connection:
        await connection.execute(
            "UPDATE executor.workflow_versions SET used_at = now()"
            " WHERE tenant_id = $1 AND name = $2 AND version = $3",
            tenant,
            name,
            version,
        )


async def test_a_version_is_read_as_it_was_registered(workflows):
    registered = await workflows.register(
        "invoice.approve",
        chain(3),
        "2026-11-21",
        description="Approves an invoice.",
        defaults={"labels": {"team": "billing"}, "priority": 2},
    )
    assert (registered.name, registered.version) == ("invoice.approve", "2026-11-21")
    assert registered.state == pb.WORKFLOW_VERSION_STATE_ACTIVE
    assert not registered.HasField("graph")
    assert not registered.HasField("first_use_time")
    assert registered.create_time == registered.update_time
    assert len(bytes.fromhex(registered.graph_hash)) == 32

    for version in ("2026-11-21", ""):
        read = await workflows.get("invoice.approve", version)
        assert read.graph == chain(3)
        read.ClearField("graph")
        assert read == registered
    assert registered.description == "Approves an invoice."
    assert dict(registered.defaults.labels) == {"team": "billing"}
    assert registered.defaults.priority == 2


async def test_without_a_version_numbers_are_given(workflows):
    assert (await workflows.register("flow", chain(1))).version == "1"
    assert (await workflows.register("flow", chain(2))).version == "2"
    assert (await workflows.register("flow", chain(3), "9")).version == "9"
    assert (await workflows.register("flow", chain(4), "2026-11-21")).version == "2026-11-21"
    assert (await workflows.register("flow", chain(5))).version == "10"
    assert (await workflows.register("flow", chain(6), "999999999")).version == "999999999"
    assert (await workflows.register("flow", chain(7))).version == "1000000000"
    assert (await workflows.register("flow", chain(8))).version == "1000000001"
    assert await workflows.versions("flow") == [
        *("1000000001", "1000000000", "999999999", "10", "2026-11-21", "9", "2", "1")
    ]
    await workflows.register("flow", chain(9), "9" * 64)
    async with refused() as why:
        await workflows.register("flow", chain(10))
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == ["version"]


async def test_the_newest_version_is_not_registered_twice(workflows):
    first = await workflows.register("flow", chain(1))
    again = await workflows.register("flow", chain(1))
    assert again == first
    other = await workflows.register("flow", chain(1), defaults={"priority": 1})
    assert other.version == "2"
    back = await workflows.register("flow", chain(1))
    assert back.version == "3"
    await workflows.deprecate("flow", "3")
    assert (await workflows.register("flow", chain(1))).version == "4"


async def test_a_version_that_was_never_used_may_be_replaced(workflows):
    first = await workflows.register("flow", chain(1), "1", description="old")
    await workflows.register("flow", chain(1), "2")
    changed = await workflows.register("flow", chain(2), "1", description="new")
    assert changed.graph_hash != first.graph_hash
    assert changed.description == "new"
    assert changed.create_time == first.create_time
    assert changed.update_time.ToDatetime() > first.update_time.ToDatetime()
    # It keeps its place: the newest is the one that was first registered last.
    assert (await workflows.get("flow")).version == "2"


async def test_a_used_version_never_changes(shared_mesh, workflows):
    await workflows.register("flow", chain(1), "1", defaults={"labels": {"a": "b"}})
    await use(shared_mesh, workflows.tenant, "flow", "1")
    for fields in (
        {"graph": chain(2), "defaults": {"labels": {"a": "b"}}},
        {"graph": chain(1), "defaults": {"labels": {"a": "c"}}},
        {"graph": chain(1), "defaults": {"labels": {"a": "b"}, "priority": 3}},
        {"graph": chain(1)},
    ):
        for validate_only in (False, True):
            async with refused() as why:
                await workflows.register("flow", **fields, version="1", validate_only=validate_only)
            assert why().reason == Reason.WORKFLOW_VERSION_EXISTS
            assert why().metadata == {"workflow": "flow", "version": "1"}
    read = await workflows.get("flow", "1")
    assert read.graph == chain(1)
    assert dict(read.defaults.labels) == {"a": "b"}
    assert read.HasField("first_use_time")


async def test_the_description_of_a_used_version_may_change(shared_mesh, workflows):
    await workflows.register("flow", chain(1), "1", description="old")
    await use(shared_mesh, workflows.tenant, "flow", "1")
    changed = await workflows.register("flow", chain(1), "1", description="new")
    assert changed.description == "new"
    assert (await workflows.get("flow", "1")).description == "new"


@pytest.mark.parametrize("version", ["", "7"])
async def test_many_at_once_register_one_version(workflows, version):
    registered = await asyncio.gather(
        *(workflows.register("flow", chain(1), version) for _ in range(12))
    )
    assert {each.version for each in registered} == {version or "1"}
    assert len({each.create_time.ToNanoseconds() for each in registered}) == 1
    assert await workflows.versions("flow") == [version or "1"]


async def test_other_graphs_at_once_get_numbers_of_their_own(workflows):
    registered = await asyncio.gather(
        *(workflows.register("flow", chain(length)) for length in range(1, 9))
    )
    assert {each.version for each in registered} == {str(number) for number in range(1, 9)}
    hashes = {each.version: each.graph_hash for each in registered}
    for version, graph_hash in hashes.items():
        assert (await workflows.get("flow", version)).graph_hash == graph_hash
    assert sorted(await workflows.versions("flow")) == sorted(hashes)


async def test_use_and_change_at_once_never_change_a_used_version(shared_mesh, workflows):
    """Whatever comes first, the graph that was used is the one that stays."""
    for number in range(10):
        name = f"flow{number}"
        await workflows.register(name, chain(1), "1")
        used = shared_mesh.fetch(
            "UPDATE executor.workflow_versions SET used_at = now()"
            " WHERE tenant_id = $1 AND name = $2 RETURNING encode(graph_hash, 'hex') AS hash",
            workflows.tenant,
            name,
        )
        rows, change = await asyncio.gather(
            used, workflows.register(name, chain(2), "1"), return_exceptions=True
        )
        read = await workflows.get(name, "1")
        assert [row["hash"] for row in rows] == [read.graph_hash]
        if not isinstance(change, BaseException):
            assert change.graph_hash == read.graph_hash


async def test_only_checking_records_nothing(workflows):
    preview = await workflows.register("flow", chain(1), description="d", validate_only=True)
    assert (preview.version, preview.description) == ("1", "d")
    async with refused() as why:
        await workflows.get("flow")
    assert why().reason == Reason.WORKFLOW_NOT_FOUND

    first = await workflows.register("flow", chain(1))
    preview = await workflows.register("flow", chain(2), "1", validate_only=True)
    assert preview.graph_hash != first.graph_hash
    assert (await workflows.get("flow")).graph_hash == first.graph_hash
    assert (await workflows.register("flow", chain(2), validate_only=True)).version == "2"
    assert await workflows.versions("flow") == ["1"]


async def test_a_deprecated_version_is_not_the_newest(workflows):
    await workflows.register("flow", chain(1), "1")
    await workflows.register("flow", chain(2), "2")
    changed = await workflows.deprecate("flow", "2")
    assert changed.state == pb.WORKFLOW_VERSION_STATE_DEPRECATED
    assert await workflows.deprecate("flow", "2") == changed
    assert (await workflows.get("flow")).version == "1"
    assert await workflows.list() == [("flow", "1")]
    # It is still there, under its name.
    assert (await workflows.get("flow", "2")).graph == chain(2)
    assert await workflows.versions("flow") == ["2", "1"]

    await workflows.deprecate("flow", "1")
    assert (await workflows.get("flow")).version == "2"
    await workflows.set_state("flow", "1", "ACTIVE")
    assert (await workflows.get("flow")).version == "1"


async def test_an_unused_version_is_deleted_and_a_used_one_is_not(shared_mesh, workflows):
    await workflows.register("flow", chain(1), "1")
    await workflows.register("flow", chain(2), "2")
    await workflows.delete("flow", "2")
    assert await workflows.versions("flow") == ["1"]
    async with refused() as why:
        await workflows.delete("flow", "2")
    assert why().reason == Reason.WORKFLOW_NOT_FOUND
    assert why().metadata == {"workflow": "flow", "version": "2"}

    await use(shared_mesh, workflows.tenant, "flow", "1")
    async with refused() as why:
        await workflows.delete("flow", "1")
    assert why().reason == Reason.WORKFLOW_VERSION_IN_USE
    assert why().metadata == {"workflow": "flow", "version": "1"}
    assert await workflows.versions("flow") == ["1"]


async def test_lists_come_in_pages_by_name(workflows):
    for name in ("b", "a", "a-b", "a.b", "c"):
        await workflows.register(name, chain(1))
    await workflows.register("b", chain(2), "x")
    assert await workflows.list() == [
        *(("a", "1"), ("a-b", "1"), ("a.b", "1"), ("b", "x"), ("c", "1"))
    ]


async def test_tenants_do_not_see_each_other(workflows):
    other = workflows.of(f"{workflows.tenant}-other")
    mine = await workflows.register("flow", chain(1), "1")
    theirs = await other.register("flow", chain(2), "1")
    assert theirs.graph_hash != mine.graph_hash
    await other.register("theirs", chain(1))
    assert await workflows.list() == [("flow", "1")]
    assert await other.list() == [("flow", "1"), ("theirs", "1")]
    for call in (
        workflows.get("theirs"),
        workflows.versions("theirs"),
        workflows.deprecate("theirs", "1"),
        workflows.delete("theirs", "1"),
    ):
        async with refused() as why:
            await call
        assert why().reason == Reason.WORKFLOW_NOT_FOUND
    await other.delete("flow", "1")
    assert (await workflows.get("flow")).graph == chain(1)


async def test_a_page_token_belongs_to_its_list_and_tenant(workflows):
    for name in ("a", "b"):
        for length in (1, 2):
            await workflows.register(name, chain(length))
    token = (
        await workflows.call("ListWorkflows", pb.ListWorkflowsRequest(page_size=1))
    ).next_page_token
    versions = pb.ListWorkflowVersionsRequest(name="a", page_size=1)
    version_token = (await workflows.call("ListWorkflowVersions", versions)).next_page_token
    assert token
    assert version_token
    for who, method, request in (
        (workflows.of("t"), "ListWorkflows", pb.ListWorkflowsRequest(page_token=token)),
        (workflows, "ListWorkflows", pb.ListWorkflowsRequest(page_token=version_token)),
        (
            workflows,
            "ListWorkflowVersions",
            pb.ListWorkflowVersionsRequest(name="b", page_token=version_token),
        ),
    ):
        async with refused() as why:
            await who.call(method, request)
        assert why().reason == Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "Flow"}, "name"),
        ({"name": "9"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"name": "a" * 129}, "name"),
        ({"version": "a b"}, "version"),
        ({"version": ".1"}, "version"),
        ({"version": "1" * 65}, "version"),
        ({"version": "1\n"}, "version"),
        ({"description": "d" * 4097}, "description"),
        ({"description": "\0"}, "description"),
        ({"defaults": {"priority": 10}}, "defaults.priority"),
        ({"defaults": {"priority": -1}}, "defaults.priority"),
        ({"defaults": {"labels": {"a": "\0"}}}, "defaults.labels"),
        ({"graph": graph()}, "graph.steps"),
        ({"graph": graph(transform("Bad", "1"))}, "graph.steps[0].name"),
    ],
    ids=str,
)
async def test_a_bad_registration_is_refused_with_its_field(workflows, fields, field):
    request = pb.RegisterWorkflowRequest(**{"name": "flow", "graph": chain(1), **fields})
    async with refused() as why:
        await workflows.call("RegisterWorkflow", request)
    assert [fault.field for fault in why().faults] == [field]
    assert await workflows.list() == []


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetWorkflow", pb.GetWorkflowRequest(), "name"),
        ("GetWorkflow", pb.GetWorkflowRequest(name="a", version="/"), "version"),
        ("ListWorkflows", pb.ListWorkflowsRequest(page_size=-1), "page_size"),
        ("ListWorkflowVersions", pb.ListWorkflowVersionsRequest(), "name"),
        ("DeleteWorkflowVersion", pb.DeleteWorkflowVersionRequest(name="a"), "version"),
        (
            "SetWorkflowVersionState",
            pb.SetWorkflowVersionStateRequest(name="a", version="1"),
            "state",
        ),
        (
            "SetWorkflowVersionState",
            pb.SetWorkflowVersionStateRequest(name="a", version="1", state=7),
            "state",
        ),
    ],
)
async def test_a_bad_field_is_named(workflows, method, request_, field):
    async with refused() as why:
        await workflows.call(method, request_)
    assert why().reason == Reason.FIELD_INVALID
    assert [fault.field for fault in why().faults] == [field]


async def test_what_is_not_there_is_not_found(workflows):
    await workflows.register("flow", chain(1))
    for call, version in (
        (workflows.get("nothing"), ""),
        (workflows.get("flow", "2"), "2"),
        (workflows.versions("nothing"), ""),
        (workflows.deprecate("flow", "2"), "2"),
    ):
        async with refused() as why:
            await call
        assert why().reason == Reason.WORKFLOW_NOT_FOUND
        assert why().metadata["version"] == version


async def test_a_good_graph_is_described(workflows):
    built = graph(
        transform("a", "1"),
        transform("b", "value", depends_on=["a"]),
        transform("c", "1"),
        transform("d", "1", depends_on=["b", "c"]),
        transform("e", "1", depends_on=["c"]),
    )
    response = await workflows.validate(built)
    assert not response.problems
    assert response.shape.steps == 5
    assert list(response.shape.sinks) == ["d", "e"]
    assert list(response.shape.longest_chain) == ["a", "b", "d"]
    assert response.shape.graph_hash == (await workflows.register("flow", built)).graph_hash


async def test_all_problems_of_a_graph_are_told(workflows):
    response = await workflows.validate(
        graph(
            transform("a", "1 +"),
            transform("b", "nothing.x", depends_on=["typo"], timeout={"seconds": -1}),
            {"name": "Bad"},
        )
    )
    assert not response.HasField("shape")
    assert [(problem.field, problem.reason) for problem in response.problems] == [
        ("graph.steps[0].transform.expression", "EXPRESSION_INVALID"),
        ("graph.steps[1].depends_on", "DEPENDENCY_MISSING"),
        ("graph.steps[1].timeout", "FIELD_INVALID"),
        ("graph.steps[1].transform.expression", "EXPRESSION_INVALID"),
        ("graph.steps[2].name", "FIELD_INVALID"),
        ("graph.steps[2]", "STEP_KIND_UNKNOWN"),
    ]
    assert all(problem.description for problem in response.problems)
