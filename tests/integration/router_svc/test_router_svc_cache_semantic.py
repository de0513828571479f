"""Answers to questions of the same meaning, found through a real vector service."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router_svc.generate.records import HitKind
from router_svc.requests.records import (
    CacheControl,
    CacheMode,
    Document,
    JsonSchema,
    Message,
    Role,
    Tool,
    ToolMode,
)
from stepwire.api.router.v1 import cache_service_pb2 as pb
from stepwire.call import call_context
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.cached_router import Instance, instance, semantic
from tests.integration.router_svc.extract_service import ExtractService, extract_service
from tests.integration.vector_svc.vector_svc_harness import serving
from tests.unit.router_svc.router_builders import a_request

ASKED = "How do I reset the password of my router?"
SAME = "What is the way to reset my router's password?"


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def words() -> AsyncIterator[ExtractService]:
    async with extract_service() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def one(url: str, words: ExtractService) -> AsyncIterator[Instance]:
    async with (
        serving(url) as vectors,
        instance(
            None,
            model_target=words.target,
            vector_target=vectors.address,
            cache_similarity=0.4,
        ) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def tenant() -> Iterator[str]:
    name = f"test-{uuid4().hex[:12]}"
    with call_context(tenant_id=name):
        yield name


async def counts(of: Instance) -> Any:
    return (await of.cache.GetCacheStats(pb.GetCacheStatsRequest())).stats.counts


async def test_a_question_of_the_same_meaning_gets_the_answer(one: Instance) -> None:
    await one.ask(semantic(ASKED))
    await one.written()
    made = one.maker.made
    answer = await one.ask(semantic(SAME))
    texts, end = await one.stream(semantic(SAME))
    assert one.maker.made == made
    for each in (answer, end):
        assert each.hit is not None
        assert each.hit.kind is HitKind.SEMANTIC
        assert 0.4 < each.hit.similarity < 1
        assert each.cost_micro_usd == 0
    assert "".join(texts) == answer.completion.text
    # Only who asks for it.
    exact = a_request(SAME, cache=CacheControl(CacheMode.EXACT))
    assert (await one.ask(exact)).hit is None


@pytest.mark.parametrize(
    "other",
    [
        "How do I reset the password of 2 of my router?",
        "How do I not reset the password of my router?",
        "How do I reset the password of my Router from Yesterday?",
        "How do I reset the password of my laptop?",
    ],
)
async def test_what_differs_in_what_counts_is_refused_and_counted(
    one: Instance, other: str
) -> None:
    await one.ask(semantic(ASKED))
    await one.written()
    assert (await one.ask(semantic(other))).hit is None
    assert (await counts(one)).refused == 1


async def test_what_is_invalidated_is_not_found_by_its_meaning(one: Instance) -> None:
    await one.ask(semantic(ASKED))
    await one.written()
    await one.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(model="small"))
    assert (await one.ask(semantic(SAME))).hit is None


async def test_a_vector_service_that_is_away_is_a_miss_and_is_told(words: ExtractService) -> None:
    async with instance(None, model_target=words.target, vector_target="127.0.0.1:1") as lone:
        answers = [await lone.ask(semantic(text)) for text in (ASKED, SAME, ASKED)]
        stats = (await lone.cache.GetCacheStats(pb.GetCacheStatsRequest())).stats
    assert [None if each.hit is None else each.hit.kind for each in answers] == [
        None,
        None,
        HitKind.EXACT,
    ]
    assert stats.counts.errors >= 2
    assert "UNAVAILABLE" in stats.semantic_error


SYSTEM = Message(Role.SYSTEM, "Be brief.")
QUESTION = Message(Role.USER, ASKED)
TOOL = Tool("gauge", "Reads it.", {"type": "object"})
# Each makes a request that must not get the plain one's answer.
CHANGES: dict[str, Any] = {
    "system": {"messages": (SYSTEM, QUESTION)},
    "history": {"messages": (QUESTION, Message(Role.ASSISTANT, "Why?"), QUESTION)},
    "documents": {"documents": (Document("a", "", "text"),)},
    "tools": {"tools": (TOOL,)},
    "other tools": {"tools": (replace(TOOL, description="Sets it."),)},
    "tool choice": {"tools": (TOOL,), "tool_choice": ToolMode.REQUIRED},
    "schema": {"json_schema": JsonSchema({"type": "object"})},
    "temperature": {"temperature": 0.0},
    "other temperature": {"temperature": 0.7},
    "top_p": {"top_p": 0.3},
    "seed": {"sampling_seed": 1},
    "stop": {"stop": ("END",)},
    "length": {"max_output_tokens": 5},
    "model": {"model": "large"},
    "quality": {"min_quality": 0.2},
}
WHO = st.tuples(st.sampled_from(["ours", "theirs"]), st.sampled_from(["", "anna"]))
WHAT = st.sampled_from(["plain", *CHANGES])
TEXT = st.sampled_from([ASKED, SAME, ASKED.upper()])


@given(asked=st.lists(st.tuples(WHO, WHAT, TEXT), min_size=2, max_size=10))
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_an_answer_never_leaves_its_tenant_scope_and_setting(
    one: Instance, asked: list[tuple[tuple[str, str], str, str]]
) -> None:
    """Whatever was asked before: an answer was made for the same tenant, scope and setting."""
    run = uuid4().hex
    made_for: dict[str, tuple[tuple[str, str], str]] = {}
    for (tenant, scope), what, text in asked:
        plain = semantic(text, scope=scope)
        change = dict(CHANGES.get(what, {}))
        if "messages" in change:
            *before, last = change["messages"]
            change["messages"] = (*before, replace(last, content=text))
        with call_context(tenant_id=f"{tenant}-{run}"):
            answer = await one.ask(replace(plain, **change))
        here = ((tenant, scope), what)
        if answer.hit is None:
            made_for[answer.completion.text] = here
            await one.written()
        assert made_for[answer.completion.text] == here
