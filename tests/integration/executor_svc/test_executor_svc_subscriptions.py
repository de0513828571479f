"""Subscriptions: creating, changing, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.api.executor.v1 import subscription_service_pb2 as pb
from stepwire.api.executor.v1.executor_service_pb2 import CreateTaskRequest
from stepwire.api.executor.v1.graph_pb2 import WorkflowRef
from stepwire.ids import uuid7
from stepwire.sdk.webhooks import decode_secret, new_secret
from tests.integration.executor_svc.executor_mesh import graph, refused, transform
from tests.integration.executor_svc.subscription_client import events_of
from tests.integration.executor_svc.subscription_fixtures import subscriptions
from tests.integration.executor_svc.workflow_client import workflow_client

__all__ = ["subscriptions"]

URL = "https://example.com/hook"
STEPS = graph(transform("a", "input.type"))


def handler(**fields):
    return pb.Handler(task=CreateTaskRequest(**{"graph": STEPS, **fields}))


async def test_a_webhook_is_created_and_read(subscriptions):
    created = await subscriptions.webhook("hook", URL)
    assert len(decode_secret(created.secret)) == 32
    found = await subscriptions.get("hook")
    assert found == created.subscription
    assert found.events == events_of("SUCCEEDED", "FAILED", "CANCELLED")
    assert (found.webhook.url, found.webhook.secret) == (URL, "")
    assert not found.paused
    assert abs(found.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.update_time == found.create_time


async def test_all_fields_are_kept(subscriptions):
    fields = {
        "events": events_of("RETRIED", "CANCELLED"),
        "labels": {"team": "a"},
        "workflow": "report",
        "handler": handler(labels={"mine": "1"}, priority=3),
        "include_output": True,
        "paused": True,
    }
    created = (await subscriptions.create("all", **fields)).subscription
    wanted = pb.Subscription(name="all", **fields)
    wanted.events[:] = events_of("CANCELLED", "RETRIED")
    for output_only in ("subscription_id", "create_time", "update_time"):
        created.ClearField(output_only)
    assert created == wanted


async def test_a_secret_may_be_given(subscriptions):
    secret = new_secret()
    created = await subscriptions.create("given", webhook=pb.Webhook(url=URL, secret=secret))
    assert created.secret == secret


async def test_subscriptions_are_listed_by_name(subscriptions):
    for name in ("c", "a", "e", "b", "d"):
        await subscriptions.webhook(name, URL)
    assert await subscriptions.names() == list("abcde")
    assert await subscriptions.names(page_size=0) == list("abcde")


async def test_tenants_do_not_see_each_other(subscriptions):
    other = subscriptions.of(f"tenant-{uuid7()}")
    mine = await subscriptions.webhook("same", URL)
    theirs = await other.webhook("same", URL)
    assert mine.subscription.subscription_id != theirs.subscription.subscription_id
    await other.delete("same")
    assert await other.names() == []
    assert await subscriptions.names() == ["same"]


async def test_only_what_the_mask_names_changes(subscriptions):
    before = (await subscriptions.webhook("hook", URL, labels={"a": "1"})).subscription
    other = pb.Webhook(url="https://example.com/other")
    after = await subscriptions.update("hook", "webhook.url", webhook=other, labels={"b": "2"})
    assert after.webhook.url == other.url
    assert after.labels == {"a": "1"}
    assert after.update_time.ToDatetime() > before.update_time.ToDatetime()
    assert after.create_time == before.create_time
    after = await subscriptions.update(
        "hook",
        *("events", "labels", "workflow", "include_output", "paused"),
        events=events_of("FAILED"),
        workflow="w",
        include_output=True,
        paused=True,
    )
    assert (after.events, after.labels, after.workflow) == (events_of("FAILED"), {}, "w")
    assert (after.include_output, after.paused) == (True, True)
    assert after == await subscriptions.get("hook")


async def test_a_handlers_task_changes(subscriptions):
    await subscriptions.handler("handler", STEPS)
    other = handler(graph=graph(transform("b", "1")))
    assert (await subscriptions.update("handler", "handler.task", handler=other)).handler == other


@pytest.mark.parametrize(
    ("paths", "fields", "field"),
    [
        ([], {}, "update_mask"),
        (["name"], {}, "update_mask"),
        (["webhook"], {}, "update_mask"),
        (["webhook.secret"], {}, "update_mask"),
        (["paused_because"], {}, "update_mask"),
        (["handler.task"], {"handler": handler()}, "update_mask"),
        (["webhook.url"], {}, "subscription.webhook.url"),
        (["events"], {"events": [10]}, "subscription.events"),
        (["labels"], {"labels": {"": ""}}, "subscription.labels['']"),
        (["workflow"], {"workflow": "w" * 129}, "subscription.workflow"),
    ],
)
async def test_changes_that_are_refused(subscriptions, paths, fields, field):
    before = (await subscriptions.webhook("hook", URL)).subscription
    async with refused() as error:
        await subscriptions.update("hook", *paths, **fields)
    assert (error().reason, error().metadata["field"]) == ("FIELD_INVALID", field)
    assert await subscriptions.get("hook") == before


async def test_a_handler_has_no_url_to_change(subscriptions):
    await subscriptions.handler("handler", STEPS)
    for path, fields in (("webhook.url", {"webhook": pb.Webhook(url=URL)}),):
        async with refused() as error:
            await subscriptions.update("handler", path, **fields)
        assert error().metadata["field"] == "update_mask"
    async with refused() as error:
        await subscriptions.rotate("handler")
    assert error().reason == "FIELD_INVALID"


async def test_a_secret_is_rotated(subscriptions):
    first = (await subscriptions.webhook("hook", URL)).secret
    rotated = await subscriptions.rotate("hook")
    assert rotated.secret not in ("", first)
    end = rotated.subscription.webhook.previous_secret_end_time.ToDatetime(UTC)
    assert abs(end - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)
    given = new_secret()
    ended = await subscriptions.rotate("hook", secret=given, overlap=Duration())
    assert ended.secret == given
    assert not ended.subscription.webhook.HasField("previous_secret_end_time")


@pytest.mark.parametrize("seconds", [-1, 7 * 86400 + 1])
async def test_an_overlap_has_its_limits(subscriptions, seconds):
    await subscriptions.webhook("hook", URL)
    async with refused() as error:
        await subscriptions.rotate("hook", overlap=Duration(seconds=seconds))
    assert error().metadata["field"] == "overlap"


async def test_the_same_request_id_creates_once_and_shows_the_secret_again(subscriptions):
    created = await asyncio.gather(
        *(subscriptions.webhook("hook", URL, request_id="r") for _ in range(8))
    )
    assert len({response.subscription.subscription_id for response in created}) == 1
    assert len({response.secret for response in created}) == 1
    assert created[0].secret


async def test_a_secret_is_not_shown_for_ever(subscriptions, shared_mesh):
    await subscriptions.webhook("hook", URL, request_id="r")
    await shared_mesh.fetch(
        "WITH aged AS (UPDATE executor.subscription_requests"
        " SET created_at = created_at - $2::interval WHERE tenant_id = $1)"
        " UPDATE executor.subscriptions SET key_made_at = key_made_at - $2::interval"
        " WHERE tenant_id = $1",
        subscriptions.tasks.tenant,
        timedelta(minutes=10),
    )
    again = await subscriptions.webhook("hook", URL, request_id="r")
    assert again.subscription.name == "hook"
    assert again.secret == ""


async def test_a_rotated_secret_is_shown_to_who_rotated_it(subscriptions):
    await subscriptions.webhook("hook", URL, request_id="c")
    first = await subscriptions.rotate("hook", request_id="r")
    again = await subscriptions.rotate("hook", request_id="r")
    assert again.secret == first.secret
    assert (await subscriptions.webhook("hook", URL, request_id="c")).secret == ""
    second = await subscriptions.rotate("hook", request_id="r2")
    assert second.secret != first.secret
    assert (await subscriptions.rotate("hook", request_id="r")).secret == ""


async def test_changes_with_a_request_id_are_made_once(subscriptions):
    await subscriptions.webhook("hook", URL)
    await subscriptions.update("hook", "paused", paused=True, request_id="u")
    await subscriptions.update("hook", "paused", paused=False)
    assert not (await subscriptions.update("hook", "paused", paused=True, request_id="u")).paused
    await asyncio.gather(*(subscriptions.delete("hook", request_id="d") for _ in range(4)))
    await subscriptions.webhook("hook", URL)
    await subscriptions.delete("hook", request_id="d")
    assert await subscriptions.names() == ["hook"]


async def test_a_repeated_call_is_answered_though_it_would_be_refused_by_now(
    subscriptions, shared_mesh
):
    async with workflow_client(shared_mesh.server.address, subscriptions.tasks.tenant) as workflows:
        await workflows.register("w", STEPS, "v1")
        named = handler(graph=None, workflow=WorkflowRef(name="w"))
        await subscriptions.create("other", handler=handler())

        async def change():
            created = await subscriptions.create("handler", handler=named, request_id="c")
            changed = await subscriptions.update(
                "other", "handler.task", handler=named, request_id="u"
            )
            return created, changed

        before = await change()
        await workflows.deprecate("w", "v1")
        assert await change() == before
        async with refused() as error:
            await subscriptions.create("more", handler=named, request_id="m")
        assert error().reason == "WORKFLOW_VERSION_DEPRECATED"


async def test_after_a_day_a_request_id_means_another_call(subscriptions, shared_mesh):
    await subscriptions.webhook("hook", URL)
    await subscriptions.update("hook", "paused", paused=True, request_id="u")
    await subscriptions.update("hook", "paused", paused=False)
    await shared_mesh.fetch(
        "UPDATE executor.subscription_requests SET created_at = created_at - interval '1 day'"
        " WHERE tenant_id = $1",
        subscriptions.tasks.tenant,
    )
    assert (await subscriptions.update("hook", "paused", paused=True, request_id="u")).paused


async def test_a_request_id_means_one_request(subscriptions):
    await subscriptions.webhook("hook", URL, request_id="r")
    for other in (
        subscriptions.webhook("hook", f"{URL}/other", request_id="r"),
        subscriptions.webhook("other", URL, request_id="r"),
        subscriptions.update("hook", "paused", request_id="r"),
        subscriptions.rotate("hook", request_id="r"),
        subscriptions.delete("hook", request_id="r"),
    ):
        async with refused() as error:
            await other
        assert error().reason == "REQUEST_ID_REUSED"
        assert error().metadata["request_id"] == "r"
    assert await subscriptions.names() == ["hook"]
    # Another tenant's is another one.
    await subscriptions.of(f"tenant-{uuid7()}").webhook("hook", URL, request_id="r")


async def test_what_was_refused_may_be_asked_again(subscriptions):
    await subscriptions.webhook("hook", URL)
    async with refused() as error:
        await subscriptions.webhook("hook", URL, request_id="r")
    assert error().reason == "SUBSCRIPTION_EXISTS"
    assert error().metadata == {"subscription": "hook"}
    await subscriptions.delete("hook")
    assert (await subscriptions.webhook("hook", URL, request_id="r")).secret


async def test_what_is_not_there(subscriptions):
    for call in (
        subscriptions.get("gone"),
        subscriptions.update("gone", "paused"),
        subscriptions.rotate("gone", request_id="r"),
        subscriptions.delete("gone", request_id="r"),
        subscriptions.ping("gone"),
    ):
        async with refused() as error:
            await call
        assert error().reason == "SUBSCRIPTION_NOT_FOUND"
        assert error().metadata == {"subscription": "gone"}


async def test_a_deleted_one_that_is_created_again_is_another(subscriptions):
    first = await subscriptions.webhook("hook", URL)
    await subscriptions.delete("hook")
    second = await subscriptions.webhook("hook", URL)
    assert first.subscription.subscription_id != second.subscription.subscription_id
    assert first.secret != second.secret


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, "FIELD_INVALID", "subscription.webhook"),
        ({"webhook": pb.Webhook()}, "FIELD_INVALID", "subscription.webhook.url"),
        ({"webhook": pb.Webhook(url="ftp://a")}, "FIELD_INVALID", "subscription.webhook.url"),
        (
            {"webhook": pb.Webhook(url=URL, secret="whsec_short")},
            "FIELD_INVALID",
            "subscription.webhook.secret",
        ),
        ({"webhook": pb.Webhook(url=URL), "events": [1]}, "FIELD_INVALID", "subscription.events"),
        ({"handler": handler(request_id="r")}, "FIELD_INVALID", "subscription.handler.task."),
        (
            {"handler": handler(graph=graph(transform("a", "1 +")))},
            "EXPRESSION_INVALID",
            "subscription.handler.task.graph.steps[0]",
        ),
        ({"handler": pb.Handler()}, "FIELD_INVALID", "subscription.handler.task"),
    ],
)
async def test_subscriptions_that_are_refused(subscriptions, fields, reason, field):
    async with refused() as error:
        await subscriptions.create("bad", **fields)
    assert error().reason == reason
    assert error().metadata["field"].startswith(field)
    assert "whsec" not in str(error()) or "short" not in str(error())
    assert await subscriptions.names() == []


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "a" * 64])
async def test_names_that_are_refused(subscriptions, name):
    async with refused() as error:
        await subscriptions.webhook(name, URL)
    assert error().metadata["field"] == "subscription.name"
    async with refused() as error:
        await subscriptions.get(name)
    assert error().metadata["field"] == "name"


async def test_a_tenant_has_so_many_at_most(subscriptions, shared_mesh):
    await shared_mesh.fetch(
        "INSERT INTO executor.subscriptions (subscription_id, tenant_id, name, events, labels,"
        " workflow, handler, include_output, paused)"
        " SELECT gen_random_uuid(), $1, 'n' || n, '{3}', '{}', '', '', false, true"
        " FROM generate_series(1, 99) AS n",
        subscriptions.tasks.tenant,
    )
    await subscriptions.webhook("last", URL)
    async with refused() as error:
        await subscriptions.webhook("more", URL)
    assert (error().reason, error().metadata["field"]) == ("FIELD_INVALID", "subscription")
    await subscriptions.of(f"tenant-{uuid7()}").webhook("more", URL)
