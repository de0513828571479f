"""The threads on which models run."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Runner:
    """Threads away from the event loop."""

    def __init__(self, threads: int, name: str = "model") -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Returns what `function` returns, called in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, function, *arguments
        )

    def submit(self, function: Callable[..., object], *arguments: Any) -> None:
        """Has `function`, which raises nothing, called in a thread, and does not wait for it."""
        self._executor.submit(function, *arguments)

    def close(self) -> None:
        """Waits for what runs; what has not begun is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
