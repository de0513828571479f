"""The verbs of tasks as JSON over HTTP, through a real Envoy, as the how-to page has them."""

import asyncio
import re
import shutil
from pathlib import Path

import orjson
import pytest

from gateway.testing import running_envoy

PAGE = Path(__file__).parents[3] / "docs/how-to/steer-tasks.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOCAL = "http://localhost:8080"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page is for curl")
async def test_the_commands_of_the_page_do_what_it_says(shared_mesh, tmp_path):
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    async with running_envoy(tmp_path, executor_target=shared_mesh.server.address) as envoy:
        # Each answer on a line of its own.
        script = "\necho\n".join(blocks).replace(LOCAL, f"http://{envoy.target}")
        script = re.sub(r"^(curl .*)$", r"\1; echo", script, flags=re.MULTILINE)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await shell.communicate()
    assert shell.returncode == 0, err.decode()
    answers = [orjson.loads(line) for line in out.splitlines() if line.startswith(b"{")]
    tasks = [answer["task"] for answer in answers if "task" in answer]
    signalled, done, paused, resumed, forked = tasks
    assert signalled["priority"] == 3
    assert done["output"]["json"] == "Dear Ada, welcome"
    assert done["task_id"] == signalled["task_id"]
    assert paused["state"] == "TASK_STATE_PAUSED"
    assert resumed["state"] != "TASK_STATE_PAUSED"
    assert forked["forked_from"] == done["task_id"]
    assert forked["output"] == done["output"]
    by_state, by_label = [answer["tasks"] for answer in answers if "tasks" in answer]
    assert forked["task_id"] in [task["task_id"] for task in by_state]
    assert [task["task_id"] for task in by_label] == [forked["task_id"], done["task_id"]]
    named, cancelled = [answer for answer in answers if "task_ids" in answer]
    assert named["task_ids"] == cancelled["task_ids"] == [paused["task_id"]]
