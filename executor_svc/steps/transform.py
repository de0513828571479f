"""Steps that evaluate a CEL expression."""

from typing import Any

from executor_svc.steps.kind import StepCall


class TransformKind:
    """See `TransformStep` in graph.proto."""

    def run_now(self, call: StepCall) -> Any:
        (expression,) = call.template
        return call.evaluate(expression)

    async def run(self, call: StepCall) -> Any:
        return self.run_now(call)
