"""What a call that runs out of time is told."""

import time

import pytest
from opentelemetry.metrics import NoOpMeter

from router_svc.generate.tries import ANSWER_SECONDS
from router_svc.requests.records import Message, Request, Role
from stepwire.errors import Reason, StepwireError
from tests.integration.router_svc.assembled_router import assembled_router
from tests.integration.router_svc.chat_endpoint import ChatEndpoint, Silence, refusal
from tests.integration.router_svc.running_router import chat_model

REQUEST = Request(messages=(Message(Role.USER, "How high was it?"),))


async def test_failures_before_the_deadline_are_named(
    endpoint: ChatEndpoint, second_endpoint: ChatEndpoint
) -> None:
    endpoint.otherwise = refusal(500, "broken")
    second_endpoint.otherwise = Silence()
    models = [
        chat_model("first", endpoint.base_url),
        chat_model("second", second_endpoint.base_url),
    ]
    async with assembled_router(*models, meter=NoOpMeter("test")) as (_, router):
        with pytest.raises(StepwireError) as caught:
            await router.generate(REQUEST, deadline=time.monotonic() + 1)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    told = "first@default: server: the endpoint answered 500: broken"
    assert caught.value.metadata == {"attempts": "2", "tried.1": told, "tried.2": told}


async def test_no_try_is_begun_in_the_time_kept_for_the_answer(endpoint: ChatEndpoint) -> None:
    model = chat_model("only", endpoint.base_url)
    async with assembled_router(model, meter=NoOpMeter("test")) as (_, router):
        with pytest.raises(StepwireError) as caught:
            await router.generate(REQUEST, deadline=time.monotonic() + ANSWER_SECONDS / 2)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert not endpoint.seen
