"""Steps that generate text say for whom they ask, and what they ask for."""

from typing import Any, cast

import pytest

from executor_svc.engine.records import Attempt
from executor_svc.steps.kind import StepCall
from executor_svc.steps.model import ModelKind
from stepwire.api.executor.v1.graph_pb2 import ModelStep
from stepwire.api.router.v1.message_pb2 import Message
from stepwire.api.router.v1.requirements_pb2 import (
    CACHE_MODE_EXACT,
    Attribution,
    CacheControl,
    Requirements,
)
from stepwire.api.router.v1.router_service_pb2 import GenerateRequest, GenerateResponse
from stepwire.sdk.functions import StepContext
from stepwire.sdk.graph import model


class Router:
    """Keeps what it is asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.seen: list[GenerateRequest] = []

    async def Generate(self, request: GenerateRequest) -> GenerateResponse:  # noqa: N802
        self.seen.append(request)
        return GenerateResponse(text=self.text, model="small")


async def run(router: Router, spec: ModelStep) -> Any:
    call = StepCall(
        spec=spec,
        value="How high was it?",
        evaluate=lambda _: None,
        template=(),
        context=StepContext(task_id="task", step_id="ask[3]", attempt=1, tenant_id="ours"),
        attempt=cast("Attempt", None),
    )
    return await ModelKind(cast("Any", router)).run(call)


async def test_a_step_names_its_task_and_itself() -> None:
    router = Router("A metre.")
    answer = await run(router, ModelStep())
    assert answer["text"] == "A metre."
    assert "json" not in answer
    (seen,) = router.seen
    assert seen == GenerateRequest(
        messages=[Message(role=2, content="How high was it?")],
        requirements=Requirements(),
        attribution=Attribution(task_id="task", step_id="ask[3]"),
    )


async def test_a_step_asks_for_all_that_its_graph_does() -> None:
    router = Router('{"metres": 1}')
    schema = {"type": "object", "required": ["metres"]}
    cache = CacheControl(mode=CACHE_MODE_EXACT, tags=["rivers"])
    step = model(
        "ask",
        model="small",
        min_quality=0.5,
        max_output_tokens=9,
        project="atlas",
        cache=cache,
        json_schema=schema,
    )
    answer = await run(router, step.model)
    assert answer["json"] == {"metres": 1}
    (seen,) = router.seen
    assert seen.requirements == Requirements(model="small", min_quality=0.5)
    assert seen.attribution.project == "atlas"
    assert seen.cache == cache
    assert dict(seen.json_schema.schema)["required"][0] == "metres"
    assert seen.max_output_tokens == 9


@pytest.mark.parametrize("text", ['{"metres": ', ""])
async def test_an_answer_that_was_cut_has_no_value(text: str) -> None:
    step = model("ask", json_schema={"type": "object"})
    answer = await run(Router(text), step.model)
    assert (answer["text"], answer["json"]) == (text, None)
