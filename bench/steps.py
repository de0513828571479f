"""Step functions that the benchmark's workers load."""

import asyncio
from typing import Any

from stepwire.sdk.functions import step


@step("bench.nothing")
async def nothing(_: Any) -> None:
    """The step that costs nothing but its durability."""


@step("bench.sleep")
async def sleep(seconds: Any) -> None:
    """Wait as a step waits that calls a model."""
    await asyncio.sleep(float(seconds))
