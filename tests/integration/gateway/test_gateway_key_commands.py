"""`stepwire keys` through a real gateway."""

import asyncio
import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from stepwire.api_keys import read_key
from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from tests.integration.gateway.gateway_mesh import Mesh


async def run(mesh: Mesh, key: str, *words: str) -> Result:
    arguments = [*words, "--gateway", mesh.envoy.target]
    environment = {"STEPWIRE_API_KEY": key}
    result: Result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
    return result


async def as_json(mesh: Mesh, key: str, *words: str) -> Any:
    result = await run(mesh, key, *words, "-o", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_the_life_of_a_key(guarded: Mesh, first_key: str) -> None:
    create = ("keys", "create", "ci", "--tenant", "initech", "--scope", "read", "--days", "1")
    made = await as_json(guarded, first_key, *create)
    key_id = made["key"]["key_id"]
    assert made["key"]["scopes"] == ["KEY_SCOPE_READ"]
    assert "expire_time" in made["key"]

    refused = await run(guarded, made["key_text"], "keys", "list")
    assert refused.exit_code == ExitCode.REFUSED
    assert "[SCOPE_MISSING]" in refused.stderr
    for text, reason in (("", "[KEY_MISSING]"), ("sw_unknown", "[KEY_INVALID]")):
        bad = await run(guarded, text, "keys", "list")
        assert bad.exit_code == ExitCode.REFUSED
        assert reason in bad.stderr
        assert "STEPWIRE_API_KEY" in bad.stderr

    rotated = await as_json(guarded, first_key, "keys", "rotate", key_id)
    assert "previous_secret_end_time" in rotated["key"]
    assert rotated["key_text"] != made["key_text"]
    told = await run(guarded, first_key, "keys", "revoke", key_id)
    assert f"{key_id} ci of initech: read, revoked" in told.stdout
    assert "secret before" not in told.stdout
    table = await run(guarded, first_key, "keys", "list", "--tenant", "initech")
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["KEY", key_id]


def test_a_key_that_is_made_up_is_shown_with_its_reference() -> None:
    result = CliRunner().invoke(app, ["keys", "generate", "-o", "json"])
    told = json.loads(result.stdout)
    kept = read_key(told["key_text"])
    assert kept is not None
    assert kept.reference == told["reference"]
