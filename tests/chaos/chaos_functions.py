"""Step functions of the chaos runs: each notes in a ledger that it ran, and what it saw.

The input is `{"in": …, "do": {…}}`. What `do` can ask for: `ms`, how long the step takes;
`fail_to`, up to which attempt it fails; `never`, that it fails for good.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from stepwire.api.executor.v1.graph_pb2 import Graph
from stepwire.failpoints import failpoint, failpoint_in_thread
from stepwire.sdk.functions import AddedSteps, PermanentError, StepContext, step
from tests.chaos.ledger import FOLDER_VARIABLE, Ledger
from tests.chaos.values import digest, nonces

# Between a side effect and its record: where a worker that dies has done something twice.
AFTER_EFFECT = "effect.done"


@cache
def ledger() -> Ledger:
    return Ledger(Path(os.environ[FOLDER_VARIABLE]))


@step("chaos.work")
async def work(value: dict[str, Any], context: StepContext) -> dict[str, str]:
    with _noted(value, context) as output:
        await asyncio.sleep(value["do"].get("ms", 0) / 1000)
        _fail(value["do"], context)
    await failpoint(AFTER_EFFECT)
    return output


@step("chaos.work_in_thread")
def work_in_thread(value: dict[str, Any], context: StepContext) -> dict[str, str]:
    with _noted(value, context) as output:
        time.sleep(value["do"].get("ms", 0) / 1000)
        _fail(value["do"], context)
    failpoint_in_thread(AFTER_EFFECT)
    return output


@contextmanager
def _noted(value: dict[str, Any], context: StepContext) -> Iterator[dict[str, str]]:
    nonce = secrets.token_hex(6)
    ledger().begin(
        task=context.task_id,
        step=context.step_id,
        attempt=context.attempt,
        key=context.idempotency_key,
        nonce=nonce,
        saw=list(nonces(value["in"])),
    )
    failed = True
    try:
        yield {"v": digest(context.step_id, value["in"]), "by": nonce}
        failed = False
    finally:
        ledger().end(nonce=nonce, failed=failed)


def _fail(do: dict[str, Any], context: StepContext) -> None:
    if do.get("never"):
        raise PermanentError("it never works")
    if context.attempt <= do.get("fail_to", 0):
        raise RuntimeError(f"attempt {context.attempt} fails")


@step("chaos.add")
async def add(value: dict[str, Any], context: StepContext) -> AddedSteps:
    with _noted({"in": {}, "do": {}}, context):
        graph = Graph.FromString(bytes.fromhex(value["graph"]))
    await failpoint(AFTER_EFFECT)
    return AddedSteps(graph)
