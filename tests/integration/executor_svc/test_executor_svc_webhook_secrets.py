"""Secrets of webhooks: changed without loss, and kept to themselves."""

import base64

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.sdk.webhooks import SignatureError, decode_secret
from tests.integration.executor_svc.executor_mesh import graph, transform
from tests.integration.executor_svc.subscription_client import subscription_client
from tests.integration.executor_svc.subscription_fixtures import quick, receiver, subscriptions

__all__ = ["quick", "receiver", "subscriptions"]

ONE = graph(transform("one", "1"))


async def test_while_a_secret_changes_both_sign(subscriptions, receiver):
    first = (await subscriptions.webhook("hook", receiver.url)).secret
    second = (await subscriptions.rotate("hook")).secret
    await subscriptions.tasks.run(ONE)
    (request,) = await receiver.got()
    assert request.headers["webhook-signature"].count("v1,") == 2
    assert request.verified(first)
    assert request.verified(second)
    third = (await subscriptions.rotate("hook", overlap=Duration())).secret
    await subscriptions.tasks.run(ONE)
    _, request = await receiver.got(2)
    assert request.verified(third)
    for old in (first, second):
        with pytest.raises(SignatureError):
            request.verified(old)


async def test_an_overlap_ends(subscriptions, receiver):
    first = (await subscriptions.webhook("hook", receiver.url)).secret
    await subscriptions.rotate("hook", overlap=Duration(nanos=1))
    await subscriptions.tasks.run(ONE)
    (request,) = await receiver.got()
    with pytest.raises(SignatureError):
        request.verified(first)
    assert not (await subscriptions.get("hook")).webhook.HasField("previous_secret_end_time")


async def test_the_secret_stands_nowhere_else(mesh, receiver, quick, caplog):
    async with (
        mesh.worker(),
        subscription_client(mesh.server.address, mesh.client) as subscriptions,
    ):
        created = await subscriptions.webhook("hook", receiver.url, request_id="r")
        receiver.says(500, b"no")
        await subscriptions.tasks.run(ONE)
        (done,) = await subscriptions.deliveries(created.subscription)
        key = decode_secret(created.secret)
        forms = [created.secret.removeprefix("whsec_"), key.hex(), key.decode("latin-1")]
        tables = await mesh.fetch(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'executor' AND relkind = 'r' AND relname <> 'subscriptions'"
        )
        assert len(tables) > 5
        for table in tables:
            rows = await mesh.fetch(f"SELECT t::text FROM executor.{table['relname']} AS t")
            text = "\n".join(row[0] for row in rows)
            assert not any(form in text for form in forms), table["relname"]
        assert base64.b64encode(key).decode() == forms[0]
        assert not any(form in str(done) for form in forms)
        assert not any(form in caplog.text for form in forms)
        (kept,) = await mesh.fetch("SELECT t::text FROM executor.subscriptions AS t")
        assert key.hex() in kept[0], "the test would not see it"
