"""Steps that generate text say for whom they ask."""

from typing import Any, cast

from executor_svc.engine.records import Attempt
from executor_svc.steps.kind import StepCall
from executor_svc.steps.model import ModelKind
from stepwire.api.executor.v1.graph_pb2 import ModelStep
from stepwire.api.router.v1.requirements_pb2 import Attribution
from stepwire.api.router.v1.router_service_pb2 import GenerateRequest, GenerateResponse
from stepwire.sdk.functions import StepContext


class Router:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.seen: list[GenerateRequest] = []

    async def Generate(self, request: GenerateRequest) -> GenerateResponse:  # noqa: N802
        self.seen.append(request)
        return GenerateResponse(text="A metre.", model="small")


async def test_a_step_names_its_task_and_itself() -> None:
    router = Router()
    call = StepCall(
        spec=ModelStep(),
        value="How high was it?",
        evaluate=lambda _: None,
        template=(),
        context=StepContext(task_id="task", step_id="ask[3]", attempt=1, tenant_id="ours"),
        attempt=cast("Attempt", None),
    )
    answer = await ModelKind(cast("Any", router)).run(call)
    assert answer["text"] == "A metre."
    assert router.seen[0].attribution == Attribution(task_id="task", step_id="ask[3]")
