import asyncio
import contextvars
import threading

import pytest

from stepwire.sdk.functions import Registry, StepContext

CONTEXT = StepContext(task_id="t1", step_id="embed[2]", attempt=3, tenant_id="default")


def test_the_idempotency_key_is_the_same_for_every_attempt() -> None:
    again = StepContext(task_id="t1", step_id="embed[2]", attempt=4, tenant_id="default")
    other = StepContext(task_id="t1", step_id="embed[3]", attempt=3, tenant_id="default")
    assert CONTEXT.idempotency_key == again.idempotency_key == "t1/embed[2]"
    assert other.idempotency_key != CONTEXT.idempotency_key


def test_a_function_is_registered_under_its_name_or_the_given_one() -> None:
    registry = Registry()

    @registry.step()
    def double(value: int) -> int:
        return value * 2

    registry.step("math.triple")(lambda value: value * 3)
    assert registry.names() == ["double", "math.triple"]
    assert double(4) == 8, "the decorator gives the function back as it is"
    assert registry.get("nope") is None


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 200 characters"):
        Registry().step(name)(lambda value: value)


def test_a_taken_name_is_refused_and_the_first_function_stays() -> None:
    registry = Registry()
    first = registry.add(lambda value: value, name="a")
    with pytest.raises(ValueError, match="'a' is already registered"):
        registry.add(lambda value: value, name="a")
    assert registry.get("a") is first


@pytest.mark.parametrize(
    "function", [lambda: None, lambda a, b, c: None, lambda *, value: None], ids=["0", "3", "kw"]
)
def test_a_function_that_cannot_be_called_is_refused(function: object) -> None:
    with pytest.raises(TypeError, match=r"must take \(value\) or \(value, context\)"):
        Registry().add(function, name="f")  # type: ignore[arg-type]


async def test_a_function_gets_the_context_only_if_it_needs_a_second_argument() -> None:
    registry = Registry()
    registry.add(lambda value, context: (value, context.attempt), name="with")
    registry.add(lambda value, limit=10: (value, limit), name="default")
    registry.add(lambda *values: values, name="any")

    async def call(name: str) -> object:
        function = registry.get(name)
        assert function is not None
        return await function.call("v", CONTEXT)

    assert await call("with") == ("v", 3)
    assert await call("default") == ("v", 10)
    assert await call("any") == ("v",)


async def test_a_coroutine_function_runs_on_the_loop_and_others_in_a_thread() -> None:
    registry = Registry()
    flavour = contextvars.ContextVar("flavour", default="none")

    async def on_the_loop(_: None) -> tuple[bool, str]:
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread(), flavour.get()

    def in_a_thread(_: None) -> tuple[bool, str]:
        return threading.current_thread() is threading.main_thread(), flavour.get()

    flavour.set("vanilla")
    assert await registry.add(on_the_loop).call(None, CONTEXT) == (True, "vanilla")
    assert await registry.add(in_a_thread).call(None, CONTEXT) == (False, "vanilla")


async def test_what_a_function_raises_is_passed_on() -> None:
    def broken(_: None) -> None:
        raise KeyError("colour")

    with pytest.raises(KeyError, match="colour"):
        await Registry().add(broken).call(None, CONTEXT)


def test_a_module_that_does_not_exist_cannot_be_loaded() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Registry().load(["no_such_module"])


async def test_a_function_that_raises_stop_iteration_fails_instead_of_hanging() -> None:
    function = Registry().add(lambda _: next(iter(())), name="empty")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await function.call(None, StepContext("t", "s", 1, "default"))
