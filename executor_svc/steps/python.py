"""Steps that call a registered Python function."""

from typing import Any

from executor_svc.steps.kind import StepCall, StepError
from stepwire.sdk.functions import PermanentError, Registry


class FunctionMissingError(Exception):
    """This worker does not know the function; one with newer code may."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(
            f"no function {name!r} is registered in this worker; registered are: {known}"
        )
        self.name = name


class PythonKind:
    """See `PythonStep` in graph.proto."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def run(self, call: StepCall) -> Any:
        name = call.spec.function
        function = self._registry.get(name)
        if function is None:
            raise FunctionMissingError(name, ", ".join(self._registry.names()) or "none")
        try:
            return await function.call(call.value, call.context)
        except PermanentError as error:
            raise StepError(str(error), metadata={"exception": type(error).__name__}) from error
