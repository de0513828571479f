"""Step functions: plain Python functions that `python` steps call by name.

A module registers its functions when it is imported:

    from stepwire.sdk.functions import StepContext, step

    @step("invoice.total")
    def total(lines: list[dict[str, float]]) -> float:
        return sum(line["amount"] for line in lines)

    @step("invoice.send")
    async def send(invoice: dict[str, str], context: StepContext) -> str:
        return await post(invoice, idempotency_key=context.idempotency_key)

Workers import the modules that they are configured with, and run what is registered.
"""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stepwire.api.executor.v1.graph_pb2 import Graph

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

MAX_NAME_CHARACTERS = 200


class PermanentError(Exception):
    """Raised by a step function to fail its step at once, without another attempt."""


@dataclass(frozen=True, slots=True)
class AddedSteps:
    """Returned by a step function to add steps to its task.

    The step then waits for them, as `STEP/NAME`, and their result is its output: that of
    the last one, or a map by name when several have no successor. Their compensations
    run with those of the task's own steps.

    Attributes:
        graph: The steps. Their expressions see each other's outputs.
        input: What their expressions see as `input`, a JSON value, at most as large as an output.
    """

    graph: Graph
    input: Any = None


@dataclass(frozen=True, slots=True)
class StepContext:
    """Which attempt of which step a function runs for.

    Attributes:
        task_id: Id of the task.
        step_id: Id of the step in the task: its name, `NAME[i]` for an item, or
            `PARENT/NAME` for a step that another has added.
        attempt: Number of the attempt, from 1.
        tenant_id: The tenant that owns the task.
        last_heartbeat: What the attempt before this one reported last; None if nothing.
        on_heartbeat: Takes what `heartbeat` reports.
    """

    task_id: str
    step_id: str
    attempt: int
    tenant_id: str
    last_heartbeat: Any = None
    on_heartbeat: Callable[[Any], None] = field(default=lambda _: None, repr=False)

    def heartbeat(self, details: Any = None) -> None:
        """Report that the attempt is alive, and how far it has come.

        The newest details, a JSON value, are kept for the next attempt, which finds them as
        `last_heartbeat`; they are written about once a second. Safe to call from a thread.

        Raises:
            TypeError: `details` is not a JSON value.
        """
        self.on_heartbeat(details)

    @property
    def idempotency_key(self) -> str:
        """The same text for every attempt of this step, and for no other step."""
        return f"{self.task_id}/{self.step_id}"


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A registered function, and how it wants to be called.

    Attributes:
        name: The name by which steps call it.
        function: The function as it was written.
        takes_context: Whether it takes the `StepContext` as its second argument.
        is_async: Whether it is a coroutine function.
    """

    name: str
    function: Callable[..., Any]
    takes_context: bool
    is_async: bool

    async def call(self, value: Any, context: StepContext) -> Any:
        """Calls the function with a step's input and return what it returns.

        A function that is not a coroutine function runs in a thread, with the caller's
        context variables, so that it cannot hold up the event loop. Whatever the function
        raises is passed on.
        """
        arguments = (value, context) if self.takes_context else (value,)
        if self.is_async:
            return await self.function(*arguments)
        return await asyncio.to_thread(_call, self.function, *arguments)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; a StopIteration, which no future can hold, becomes another error."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError(f"the function raised {error!r}") from error


class Registry:
    """Step functions by name."""

    def __init__(self) -> None:
        self._functions: dict[str, StepFunction] = {}

    def get(self, name: str) -> StepFunction | None:
        """Returns the function of this name, or None."""
        return self._functions.get(name)

    def names(self) -> list[str]:
        """Returns the registered names in alphabetical order."""
        return sorted(self._functions)

    def step(self, name: str | None = None) -> Callable[[AnyFunction], AnyFunction]:
        """Returns a decorator that registers a function and gives it back unchanged.

        The function takes the step's input, or the input and a `StepContext`; it may be a
        coroutine function.

        Args:
            name: The name for steps to call it by; by default the function's own.

        Raises:
            ValueError: The name is taken, empty or too long.
            TypeError: The function cannot be called with one or two arguments.
        """

        def register(function: AnyFunction) -> AnyFunction:
            self.add(function, name=name)
            return function

        return register

    def add(self, function: Callable[..., Any], *, name: str | None = None) -> StepFunction:
        """Registers a function; see `step` for the rules."""
        chosen = function.__name__ if name is None else name
        if not 1 <= len(chosen) <= MAX_NAME_CHARACTERS:
            raise ValueError(
                f"the name of a step function must have 1 to {MAX_NAME_CHARACTERS} characters, "
                f"not {len(chosen)}"
            )
        if (taken := self._functions.get(chosen)) is not None:
            raise ValueError(
                f"step function {chosen!r} is already registered by {_whereabouts(taken.function)}"
            )
        registered = StepFunction(
            name=chosen,
            function=function,
            takes_context=_takes_context(function),
            is_async=inspect.iscoroutinefunction(function),
        )
        self._functions[chosen] = registered
        return registered

    def load(self, modules: Sequence[str]) -> None:
        """Imports modules, so that their decorated functions register themselves.

        Raises:
            ImportError: A module does not exist or cannot be imported.
        """
        for module in modules:
            importlib.import_module(module)


default_registry = Registry()
"""Where `step` registers functions, and where workers look for them."""


def step(name: str | None = None) -> Callable[[AnyFunction], AnyFunction]:
    """Registers a function in the default registry; see `Registry.step`."""
    return default_registry.step(name)


def _takes_context(function: Callable[..., Any]) -> bool:
    """Tells whether a function needs the context besides the value.

    A second parameter with a default is the function's own affair and stays at its default.

    Raises:
        TypeError: The function cannot be called with one or two positional arguments.
    """
    signature = inspect.signature(function)
    for arguments in ((None,), (None, None)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return len(arguments) > 1
    raise TypeError(
        f"step function {_whereabouts(function)} must take (value) or (value, context), "
        f"not {signature}"
    )


def _whereabouts(function: Callable[..., Any]) -> str:
    """Names a function for error messages."""
    return f"{function.__module__}.{function.__qualname__}"
