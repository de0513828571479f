"""What is held for a call is given back, and what was used is written down: no more, no less."""

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from opentelemetry.metrics import NoOpMeter

from router_svc.catalogue.models import Model
from router_svc.generate.app import Joints
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.pipeline import Router
from router_svc.generate.ports import Slot
from router_svc.generate.records import Answer, Caller, UsageEntry
from router_svc.limits.own import OwnSlots
from router_svc.requests.records import Image, JsonSchema, Message, Request, Role
from stepwire.errors import Reason, StepwireError
from stepwire.testing.fleet import (
    EndpointPlan,
    Fault,
    FaultKind,
    RandomFault,
    Turn,
    running_fleet,
)
from stepwire.testing.fleet.latency import Uniform
from tests.integration.router_svc.assembled_router import assembled_router
from tests.integration.router_svc.chat_endpoint import ChatEndpoint, Reply
from tests.integration.router_svc.running_router import chat_model

REQUEST = Request(messages=(Message(Role.USER, "How high was it?"),), max_output_tokens=40)
CALLS = 150
MAX_ATTEMPTS = 4


@dataclass
class Held:
    amount: int
    settled: list[int] = field(default_factory=list)


@dataclass
class Money:
    held: Held
    book: "Book"

    def settle(self, entry: UsageEntry) -> None:
        self.held.settled.append(entry.cost_micro_usd)
        self.book.entries.append(entry)

    def release(self) -> None:
        self.held.settled.append(0)


@dataclass
class Room:
    held: Held

    def settle(self, tokens: int) -> None:
        self.held.settled.append(tokens)

    def release(self) -> None:
        self.held.settled.append(0)


@dataclass
class Book:
    """Budgets and limits in one."""

    money: list[Held] = field(default_factory=list)
    room: list[Held] = field(default_factory=list)
    entries: list[UsageEntry] = field(default_factory=list)
    too_dear: str = ""
    limited: str = ""
    slots: OwnSlots = field(default_factory=OwnSlots)

    async def reserve(self, caller: Caller, model: Model, *, worst_micro_usd: int) -> Money:
        if model.name == self.too_dear:
            raise ProviderFailure(FailureKind.OVER_BUDGET, "too dear", called=False)
        self.money.append(Held(worst_micro_usd))
        return Money(self.money[-1], self)

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Room:
        if model.name == self.limited:
            raise ProviderFailure(FailureKind.RATE_LIMITED, "enough for now", called=False)
        self.room.append(Held(tokens))
        return Room(self.room[-1])

    async def slot(self, model: Model) -> Slot:
        return await self.slots.slot(model)

    @property
    def joints(self) -> Joints:
        return Joints(budgets=self, limits=self)


def bad_days(share: float) -> tuple[RandomFault, ...]:
    faults = [
        Fault(kind=FaultKind.SERVER_ERROR),
        Fault(kind=FaultKind.RATE_LIMITED, retry_after_seconds=0.05),
        Fault(kind=FaultKind.DISCONNECT),
        Fault(kind=FaultKind.CUT, after_tokens=3),
        Fault(kind=FaultKind.GARBAGE, after_tokens=2),
        Fault(kind=FaultKind.EMPTY),
        Fault(kind=FaultKind.HANG, after_tokens=1),
    ]
    return tuple(RandomFault(share=share / len(faults), fault=fault) for fault in faults)


async def generate(
    router: Router, random: Random, answers: list[Answer], attempts: list[int]
) -> None:
    deadline = time.monotonic() + random.choice([0.2, 2.0])
    try:
        if random.random() < 0.5:
            answers.append(await router.generate(REQUEST, deadline=deadline))
            return
        leaves_early = random.random() < 0.2
        async with aclosing(router.stream(REQUEST, deadline=deadline)) as pieces:
            async for piece in pieces:
                if piece.end is not None:
                    answers.append(piece.end)
                if leaves_early:
                    return
    except StepwireError as error:
        attempts.append(int(error.metadata.get("attempts", "0")))


async def test_over_many_bad_calls_everything_is_settled_once() -> None:
    random, book = Random(1), Book()
    answers: list[Answer] = []
    attempts: list[int] = []
    plans = [
        EndpointPlan(
            name=name,
            faults=bad_days(0.5),
            latency_seconds=Uniform(low=0.0, high=0.01),
            answer_tokens=Uniform(low=1, high=60),
        )
        for name in ("east", "west", "north")
    ]
    async with running_fleet(*plans, seed=1) as fleet:
        models = [
            chat_model(name, each.base_url, timeout_seconds=0.3)
            for name, each in fleet.endpoints.items()
        ]
        for model in models:
            model["provider"]["model"] = "small"
        settings = {
            "max_attempts": MAX_ATTEMPTS,
            "hedge_share": 0.2,
            "retry_longest_wait_seconds": 0.2,
            "breaker_failures": 1_000,
        }
        async with assembled_router(
            *models, meter=NoOpMeter("test"), joints=book.joints, **settings
        ) as (_, router):
            for _ in range(CALLS // 15):
                calls = [generate(router, random, answers, attempts) for _ in range(15)]
                await asyncio.gather(*calls)
        totals = [each.account.totals for each in fleet.endpoints.values()]
    assert answers
    assert max(attempts) <= MAX_ATTEMPTS
    for held in (*book.money, *book.room):
        assert len(held.settled) == 1
        assert held.settled[0] >= 0
    # Money is held for the worst case; room under a rate for an estimate of the tokens.
    assert all(held.settled[0] <= held.amount for held in book.money)
    assert all(len(answer.failed) < MAX_ATTEMPTS + 2 for answer in answers)
    assert sum(held.settled[0] for held in book.money) == sum(
        entry.cost_micro_usd for entry in book.entries
    )
    # Everything answered is accounted for, and nothing that no provider sold.
    reported = [entry.usage for entry in book.entries if not entry.usage.estimated]
    sold = sum(total.completion_tokens for total in totals)
    assert sum(answer.usage.output_tokens for answer in answers) <= sum(
        usage.output_tokens for usage in reported
    )
    assert sum(usage.output_tokens for usage in reported) <= sold
    failed = [entry for entry in book.entries if entry.outcome in ("server", "rate_limited")]
    assert failed
    assert not any(entry.usage.total for entry in failed)


async def test_a_model_that_is_too_dear_gives_way_to_a_cheaper_one() -> None:
    book = Book(too_dear="dear")
    async with running_fleet("east") as fleet:
        price = {"input_usd_per_million_tokens": 9, "output_usd_per_million_tokens": 9}
        dear = chat_model("dear", fleet["east"].base_url, prices=[price], fallbacks=["dearer"])
        price = {"input_usd_per_million_tokens": 10, "output_usd_per_million_tokens": 10}
        dearer = chat_model("dearer", fleet["east"].base_url, prices=[price])
        cheap = chat_model("cheap", fleet["east"].base_url, quality=0.1)
        for model in (dear, dearer, cheap):
            model["provider"]["model"] = "small"
        async with assembled_router(
            dear, dearer, cheap, meter=NoOpMeter("test"), joints=book.joints
        ) as (_, router):
            answer = await router.generate(REQUEST, deadline=None)
    assert [each.kind for each in answer.failed] == ["over_budget"]
    assert answer.model.name == "cheap"
    assert len(book.entries) == 1


async def test_an_answer_off_the_schema_is_paid_for_as_is_its_correction() -> None:
    book = Book()
    async with running_fleet("east") as fleet:
        only = chat_model("only", fleet["east"].base_url, capabilities=["json"])
        only["provider"]["model"] = "small"
        fleet["east"].then(Turn(text="not at all JSON"))
        request = replace(REQUEST, json_schema=JsonSchema({"type": "object"}))
        async with assembled_router(only, meter=NoOpMeter("test"), joints=book.joints) as (
            _,
            router,
        ):
            answer = await router.generate(request, deadline=None)
        sold = fleet["east"].account.totals
    assert answer.completion.text == "{}"
    assert [entry.outcome for entry in book.entries] == ["off_schema", "answered"]
    assert sum(entry.usage.output_tokens for entry in book.entries) == sold.completion_tokens
    assert sum(entry.usage.input_tokens for entry in book.entries) == sold.prompt_tokens
    first, second = book.money
    assert second.amount > first.amount
    assert all(held.settled[0] <= held.amount for held in book.money)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_an_endpoint_was_paid_for_counts_though_it_brought_no_answer(
    *, streamed: bool
) -> None:
    book = Book()
    async with running_fleet("east") as fleet:
        only = chat_model("only", fleet["east"].base_url)
        only["provider"]["model"] = "small"
        fleet["east"].then(Turn(text=""))
        async with assembled_router(only, meter=NoOpMeter("test"), joints=book.joints) as (
            _,
            router,
        ):
            pieces = router.stream(REQUEST, deadline=None)
            asked = anext(pieces) if streamed else router.generate(REQUEST, deadline=None)
            with pytest.raises(StepwireError) as caught:
                await asked
        sold = fleet["east"].account.totals
    assert caught.value.reason is Reason.PROVIDER_REJECTED
    (entry,) = book.entries
    assert (entry.usage.input_tokens, entry.usage.output_tokens) == (
        sold.prompt_tokens,
        sold.completion_tokens,
    )
    assert not entry.usage.estimated
    assert book.money[0].settled == [entry.cost_micro_usd]
    assert entry.cost_micro_usd > 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_thoughts_count_where_no_usage_is_reported(
    endpoint: ChatEndpoint, *, streamed: bool
) -> None:
    book = Book()
    said = {"content": "A metre.", "reasoning_content": "Let me see. " * 50}
    choice = {"delta" if streamed else "message": said, "finish_reason": "stop"}
    endpoint.otherwise = Reply({"choices": [choice]})
    if streamed:
        event = f"data: {json.dumps(endpoint.otherwise.body)}\n\n"
        endpoint.otherwise = Reply(event.encode(), content_type="text/event-stream")
    only = chat_model("only", endpoint.base_url)
    async with assembled_router(only, meter=NoOpMeter("test"), joints=book.joints) as (_, router):
        if streamed:
            pieces = [piece async for piece in router.stream(REQUEST, deadline=None)]
            assert pieces[-1].end is not None
        else:
            await router.generate(REQUEST, deadline=None)
    (entry,) = book.entries
    assert entry.usage.estimated
    assert entry.usage.output_tokens > 100


async def test_for_pictures_is_held_what_the_catalogue_says() -> None:
    book = Book()
    pictures = (Image(url="https://x/a.png"), Image(url="https://x/b.png"))
    request = replace(REQUEST, messages=(replace(REQUEST.messages[0], images=pictures),))
    async with running_fleet("east") as fleet:
        dear = chat_model("only", fleet["east"].base_url, capabilities=["vision"])
        dear["provider"]["model"] = "small"
        for image_tokens in (100, 3_100):
            only = dear | {"image_tokens": image_tokens}
            async with assembled_router(only, meter=NoOpMeter("test"), joints=book.joints) as (
                _,
                router,
            ):
                await router.generate(request, deadline=None)
    # Of both 3,000 tokens more, at half a micro-dollar each.
    few, many = book.money
    assert many.amount - few.amount == 3_000
    assert book.room[1].amount - book.room[0].amount == 6_000


async def test_a_limit_keeps_a_call_from_the_provider() -> None:
    book = Book(limited="only")
    async with running_fleet("east") as fleet:
        only = chat_model("only", fleet["east"].base_url)
        async with assembled_router(only, meter=NoOpMeter("test"), joints=book.joints) as (
            _,
            router,
        ):
            with pytest.raises(StepwireError) as caught:
                await router.generate(REQUEST, deadline=time.monotonic() + 1)
        assert not fleet["east"].seen
    assert caught.value.reason is Reason.MODELS_EXHAUSTED
    assert caught.value.metadata["attempts"] == "0"
    assert not book.money
    assert not book.entries
