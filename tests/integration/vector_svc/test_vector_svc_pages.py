"""The commands of the how-to pages, through a real Envoy, with a real model service behind it."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from vector_svc_harness import Client

from gateway.testing import running_envoy
from stepwire.sdk import Client as SdkClient
from stepwire.sdk.memories import memory

PAGES = Path(__file__).parents[3] / "docs/how-to"
LOCAL = "http://localhost:8080"
# Each answer on a line of its own.
SETUP = 'curl() { command curl "$@" && echo; }\n'
NOW = datetime.now(UTC)

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the pages are for curl")


@pytest_asyncio.fixture(scope="module")
async def gateway(
    reading_service: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """The address of a gateway before the vector service."""
    folder = tmp_path_factory.mktemp("envoy")
    async with running_envoy(folder, vector_target=reading_service.address) as envoy:
        yield envoy.target


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


async def printed(page: str, gateway: str, folder: Path) -> tuple[str, list[Any]]:
    """What the page's commands print: all of it, and the JSON answers among it."""
    script = SETUP + "\n".join(blocks(page, "bash")).replace(LOCAL, f"http://{gateway}")
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STEPWIRE_GATEWAY": gateway,
        },
    )
    out, _ = await shell.communicate()
    text = out.decode()
    assert shell.returncode == 0, text
    return text, [orjson.loads(line) for line in text.splitlines() if line.startswith("{")]


async def test_collections_are_managed_as_the_page_says(gateway: str, tmp_path: Path) -> None:
    text, answers = await printed("manage-collections.md", gateway, tmp_path)
    before, after = [answer for answer in answers if "points" in answer]
    assert [each["points"][0]["point"]["id"] for each in (before, after)] == ["taxes"] * 2
    assert after["points"][0]["score"] > before["points"][0]["score"] + 0.2
    assert [answer["upserted"] for answer in answers if "upserted" in answer] == [3, 3]
    [measured] = [answer for answer in answers if "figures" in answer]
    assert measured["samples"] == 3
    assert "articles names articles-b." in text
    assert "Restored articles-copy: 3 points." in text
    assert "SNAPSHOT_INVALID" in text
    [facets] = [answer["facets"] for answer in answers if "facets" in answer]
    assert len(facets) == 3


async def test_things_are_remembered_as_the_page_says(gateway: str, tmp_path: Path) -> None:
    _, answers = await printed("remember-things.md", gateway, tmp_path)
    [recalled] = [answer["memories"] for answer in answers if "report" in answer]
    assert [each["memory"]["text"] for each in recalled] == [
        "Ann is allergic to peanuts.",
        "She wants to cook a curry tonight.",
    ]
    assert sum(answer["inserted"] for answer in answers if "inserted" in answer) == 4
    [spaces] = [answer["spaces"] for answer in answers if "spaces" in answer]
    assert [each["space"] for each in spaces] == ["user/ann", "user/ann/chat/42"]
    assert [answer["forgotten"] for answer in answers if "forgotten" in answer] == ["1", "2"]

    names: dict[str, Any] = {}
    for block in blocks("remember-things.md", "python"):
        exec(block, names)
    async with SdkClient(gateway) as client:
        assert await names["answer"](client, "bob", "Where is the harbour?") == []
        assert await names["answer"](client, "bob", "A boat?") == ["Where is the harbour?"]
        [boat, harbour] = await client.memories.latest("user/bob", metadata={"kind": "asked"})
        assert (boat.text, harbour.text) == ("A boat?", "Where is the harbour?")
        assert boat.HasField("expire_time")
        assert await client.memories.forget("user/bob", [boat.id]) == 1
        assert await client.memories.forget("user/bob") == 1
        lasting = memory("Bob sails.", memory_id="hobby", importance=0.5, time=NOW)
        await client.memories.remember("user/bob", ["Bob rows.", lasting])
        first = await client.memories.recall(
            *("user/bob", "hobbies"), half_life=timedelta(hours=1), importance_weight=10
        )
        assert first[0].memory.id == "hobby"
        assert first[0].memory.time.ToDatetime(tzinfo=UTC) == NOW
