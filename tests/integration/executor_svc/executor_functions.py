"""Step functions for tests. Those that count write a line to the file that `path` names."""

import asyncio
import time
from pathlib import Path
from typing import Any

from stepwire.sdk.functions import PermanentError, StepContext, step

PAUSE_SECONDS = 0.01


def note(value: dict[str, Any], context: StepContext) -> None:
    with Path(value["path"]).open("a", encoding="utf-8") as file:
        file.write(f"{context.step_id} {context.attempt}\n")


def exists(path: str) -> bool:
    return Path(path).exists()


def noted(path: Path) -> list[str]:
    """What `note` has written: "step_id attempt" per call."""
    return path.read_text("utf-8").splitlines() if path.exists() else []


@step("test.echo")
def echo(value: Any) -> Any:
    return value


@step("test.note")
async def note_and_return(value: dict[str, Any], context: StepContext) -> Any:
    note(value, context)
    return value


@step("test.fail")
def fail(value: Any, context: StepContext) -> None:
    if isinstance(value, dict) and "path" in value:
        note(value, context)
    raise ValueError("it went wrong")


@step("test.fail_permanently")
def fail_permanently(value: Any, context: StepContext) -> None:
    if isinstance(value, dict) and "path" in value:
        note(value, context)
    raise PermanentError("it will never work")


@step("test.need_file")
async def need_file(value: dict[str, Any], context: StepContext) -> Any:
    """Fail as long as the file `needs` is not there."""
    note(value, context)
    if not exists(value["needs"]):
        raise FileNotFoundError(value["needs"])
    return value.get("result")


@step("test.need_file_for_item")
async def need_file_for_item(value: dict[str, Any], context: StepContext) -> Any:
    """Fail for the item `bad` as long as the file `needs` is not there."""
    note(value, context)
    if value["item"] == value["bad"] and not exists(value["needs"]):
        raise FileNotFoundError(value["needs"])
    return value["item"]


@step("test.await_file")
async def await_file(value: dict[str, Any], context: StepContext) -> Any:
    """Run until the file `awaits` is there; note the start, and a cancellation."""
    note(value, context)
    try:
        while not exists(value["awaits"]):  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(PAUSE_SECONDS)
    except asyncio.CancelledError:
        with Path(value["path"]).open("a", encoding="utf-8") as file:  # noqa: ASYNC230
            file.write("cancelled\n")
        raise
    return value.get("result")


@step("test.attempt")
async def attempt_of(value: dict[str, Any], context: StepContext) -> int:
    """Return which attempt it is; the first one runs until the file `awaits` is there."""
    note(value, context)
    while context.attempt == 1 and not exists(value["awaits"]):  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_SECONDS)
    return context.attempt


@step("test.tick_until_file")
async def tick_until_file(value: dict[str, Any], context: StepContext) -> Any:
    """Note again and again that it runs, until the file `awaits` is there."""
    try:
        while not exists(value["awaits"]):
            note(value, context)
            await asyncio.sleep(PAUSE_SECONDS)
    except asyncio.CancelledError:
        with Path(value["path"]).open("a", encoding="utf-8") as file:  # noqa: ASYNC230
            file.write("cancelled\n")
        raise
    return value.get("result")


@step("test.block_until_file")
def block_until_file(value: dict[str, Any], context: StepContext) -> Any:
    """The same in a thread, where nothing can stop it."""
    note(value, context)
    while not Path(value["awaits"]).exists():
        time.sleep(PAUSE_SECONDS)
    return value.get("result")


@step("test.big")
def big(size: int) -> str:
    return "x" * size


@step("test.no_json")
def no_json(_: Any) -> object:
    return object()


@step("test.nested")
def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = {"in": value}
    return value


@step("test.nested_tuples")
def nested_tuples(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = (value,)
    return value


@step("test.tuple")
def a_tuple(_: Any) -> Any:
    return (1, [2, 3])


@step("test.change_argument")
async def change_argument(value: list[Any]) -> str:
    value.append("changed")
    return "done"


@step("test.awkward_text")
def awkward_text(_: Any) -> None:
    raise ValueError("a half \ud800 and a nul \0 in it")


@step("test.cancel")
async def cancel(_: Any) -> None:
    raise asyncio.CancelledError


@step("test.exit")
def leave(_: Any) -> None:
    raise SystemExit(3)
