"""`stepwire subscriptions`, and the client behind it, against a real executor."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stepwire.cli.app import app
from stepwire.errors import Reason, StepwireError
from stepwire.sdk.client import Client
from stepwire.sdk.requests import NewTask
from stepwire.sdk.webhooks import decode_secret, new_secret
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    Mesh,
    graph,
    python,
    transform,
)
from tests.integration.executor_svc.subscription_client import Receiver, events_of
from tests.integration.executor_svc.subscription_fixtures import receiver

__all__ = ["receiver"]

URL = "https://example.com/hook"
HANDLER = "graph: {steps: [{name: a, transform: {expression: 'input.type'}}]}\nlabels: {n: 1}\n"
Command = Callable[..., Any]


@pytest.fixture
async def command(mesh: Mesh) -> AsyncIterator[Command]:
    """Runs a command; an executor with one worker stands where the gateway would."""

    async def run(*arguments: str) -> Result:
        everything = ["subscriptions", *arguments, "--gateway", mesh.server.address]
        return await asyncio.to_thread(CliRunner().invoke, app, everything)

    async with mesh.worker():
        yield run


@pytest.fixture
async def sdk(mesh: Mesh) -> AsyncIterator[Client]:
    async with Client(mesh.server.address) as client:
        yield client


async def test_a_webhook_from_the_first_command_to_the_last(
    command: Command, sdk: Client, receiver: Receiver
) -> None:
    options = ("--event", "failed", "--label", "team=a", "--include-output")
    created = await command("create", "hook", "--webhook", receiver.url, *options)
    assert created.exit_code == 0, created.output
    assert "failed of team=a" in created.output
    assert f"to {receiver.url}" in created.output
    secret = created.output.split("secret, shown only now: ")[1].strip()
    assert len(decode_secret(secret)) == 32

    tested = await command("test", "hook")
    assert tested.exit_code == 0, tested.output
    assert "SUCCEEDED" in tested.output
    (ping,) = await receiver.got()
    assert ping.verified(secret).event["type"] == "subscription.ping"

    receiver.says(410)
    bad = graph(python("bad", "fail_permanently", retry=NO_RETRY))
    task = await sdk.create(bad, {}, labels={"team": "a"})
    await receiver.got(2)

    async def failed() -> bool:
        shown = await command("deliveries", "hook", "--failed")
        return task.task_id in shown.output and "HTTP 410" in shown.output

    await eventually(failed, WAIT_SECONDS)
    listed = await command("list")
    assert "answered 410 Gone" in " ".join(listed.output.split())
    assert "paused: the receiver answered 410 Gone" in (await command("get", "hook")).output
    resumed = await command("resume", "hook")
    assert resumed.exit_code == 0
    assert "paused" not in resumed.output
    assert "paused" in (await command("pause", "hook")).output

    rotated = await command("rotate", "hook", "--overlap-hours", "1")
    assert "signed with the secret before as well until" in rotated.output
    assert secret not in rotated.output
    assert (await command("delete", "hook")).exit_code == 0
    assert (await command("get", "hook")).exit_code == 3


async def test_a_handler(command: Command, sdk: Client, tmp_path: Path) -> None:
    file = tmp_path / "handler.yaml"
    file.write_text(HANDLER)
    created = await command("create", "handler", "--handler", str(file), "-o", "json")
    assert created.exit_code == 0, created.output
    data = json.loads(created.output)
    assert "secret" not in data
    assert data["subscription"]["handler"]["task"]["labels"] == {"n": "1"}
    assert "a graph of 1 steps" in (await command("get", "handler")).output
    await sdk.create(graph(transform("a", "1")))

    async def delivered() -> list[Any]:
        shown = await command("deliveries", "handler", "-o", "json")
        found: list[Any] = json.loads(shown.output)
        return found if found and found[0]["state"] == "TASK_STATE_SUCCEEDED" else []

    (task,) = await eventually(delivered, WAIT_SECONDS)
    assert task["labels"]["n"] == "1"


async def test_a_ping_that_does_not_arrive(command: Command, receiver: Receiver) -> None:
    await command("create", "hook", "--webhook", receiver.url)
    receiver.says(410, b"no more")
    tested = await command("test", "hook")
    assert tested.exit_code == 1
    assert "HTTP 410: no more" in tested.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either --webhook or --handler"),
        (("--webhook", URL, "--handler", "x"), "give either --webhook or --handler"),
        (("--webhook", URL, "--event", "begun"), "begun is not an event"),
        (("--webhook", URL, "--label", "team"), "team is not KEY=VALUE"),
        (("--handler", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("--webhook", "example.com"), "must begin with http://"),
    ],
)
async def test_what_is_refused(command: Command, arguments: tuple[str, ...], says: str) -> None:
    result = await command("create", "hook", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())


async def test_the_client_for_programs(sdk: Client) -> None:
    secret = new_secret()
    created = await sdk.subscriptions.create_webhook(
        "hook", URL, secret=secret, events=events_of("FAILED"), labels={"a": "1"}
    )
    assert created.secret == secret
    assert await sdk.subscriptions.get("hook") == created.subscription
    assert (await sdk.subscriptions.pause("hook")).paused
    assert not (await sdk.subscriptions.resume("hook")).paused
    changed = created.subscription
    changed.workflow = "w"
    assert (await sdk.subscriptions.update(changed, "workflow")).workflow == "w"
    rotated = await sdk.subscriptions.rotate("hook", overlap=timedelta(0))
    assert rotated.secret != secret
    assert not rotated.subscription.webhook.HasField("previous_secret_end_time")
    task = NewTask(graph(transform("a", "1")), priority=2)
    handler = await sdk.subscriptions.create_handler("handler", task, include_output=True)
    assert handler.handler.task.priority == 2
    found = [each.name async for each in sdk.subscriptions.find(page_size=1)]
    assert found == ["handler", "hook"]
    await sdk.subscriptions.delete("handler")
    with pytest.raises(StepwireError) as caught:
        await sdk.subscriptions.test("handler")
    assert caught.value.reason is Reason.SUBSCRIPTION_NOT_FOUND
