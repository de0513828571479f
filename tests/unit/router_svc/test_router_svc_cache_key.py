"""Which requests are equal to the cache."""

from dataclasses import fields, replace
from typing import Any

import pytest

from router_svc.cache.key import MAX_QUESTION_CHARACTERS, ask_of
from router_svc.cache.records import Ask
from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.kinds import Tier
from router_svc.requests.records import (
    Attribution,
    CacheControl,
    CacheMode,
    Document,
    Image,
    JsonSchema,
    Message,
    Request,
    Role,
    Tool,
    ToolCall,
    ToolMode,
)
from tests.unit.router_svc.router_builders import a_catalogue, a_model, a_request

SNAPSHOT = Snapshot(a_catalogue(a_model("small"), a_model("large")), {}, "v1")
SYSTEM = Message(Role.SYSTEM, "Be brief.")
QUESTION = Message(Role.USER, "What is this?")
OTHERS: dict[str, Any] = {
    "messages": (SYSTEM, QUESTION),
    "documents": (Document("a", "", "text"),),
    "model": "small",
    "min_quality": 0.5,
    "capabilities": ("grounding",),
    "max_cost_micro_usd": 7,
    "language": "de",
    "min_tier": Tier.LARGE,
    "seed": 3,
    "max_output_tokens": 9,
    "temperature": 0.0,
    "top_p": 0.5,
    "stop": ("END",),
    "sampling_seed": 5,
    "tools": (Tool("gauge", "Reads it.", {"type": "object"}),),
    "tool_choice": ToolMode.NONE,
    "required_tool": "gauge",
    "json_schema": JsonSchema({"type": "object"}),
}
LEFT_OUT = {"attribution", "cache"}


def ask(request: Request, *, tenant: str = "ours", snapshot: Snapshot = SNAPSHOT) -> Ask:
    found = ask_of(request, tenant_id=tenant, snapshot=snapshot, ttl_seconds=60)
    assert found is not None
    return found


def test_every_field_of_a_request_counts() -> None:
    plain = a_request()
    assert {each.name for each in fields(Request)} == OTHERS.keys() | LEFT_OUT
    for name, value in OTHERS.items():
        other = ask(replace(plain, **{name: value}))
        assert other.key != ask(plain).key, name
        assert other.partition != ask(plain).partition, name


def test_for_whom_it_is_asked_does_not_count_but_the_tenant_and_the_scope() -> None:
    plain = a_request()
    by = replace(plain, attribution=Attribution("p", "t", "s"))
    tagged = replace(plain, cache=CacheControl(CacheMode.EXACT, 5.0, ("a",)))
    scoped = replace(plain, cache=CacheControl(CacheMode.EXACT, scope="anna"))
    assert ask(by).key == ask(plain).key == ask(tagged).key
    assert ask(tagged).max_age_seconds == 5.0
    partitions = {each.partition for each in (ask(plain), ask(scoped), ask(plain, tenant="theirs"))}
    assert len(partitions) == 3


def test_nothing_runs_into_what_stands_beside_it() -> None:
    once = a_request(documents=(Document("a", "b", "c"),))
    shifted = a_request(documents=(Document("a", "", "bc"),))
    assert ask(once).key != ask(shifted).key
    told = Request(messages=(SYSTEM, QUESTION))
    asked = Request(messages=(replace(SYSTEM, role=Role.USER), QUESTION))
    assert ask(told).key != ask(asked).key


def test_the_last_message_s_text_is_all_that_a_partition_leaves_out() -> None:
    here = ask(Request(messages=(SYSTEM, QUESTION)))
    there = ask(Request(messages=(SYSTEM, replace(QUESTION, content="And that?"))))
    assert here.partition == there.partition
    assert here.key != there.key
    assert (here.question, there.question) == ("What is this?", "And that?")
    call = Message(Role.ASSISTANT, "", tool_calls=(ToolCall("1", "gauge", "{}"),))
    result = Message(Role.TOOL, "2 metres", tool_call_id="1")
    pictured = replace(QUESTION, images=(Image(data=b"png"),))
    for last in (result, pictured, replace(QUESTION, content="x" * (MAX_QUESTION_CHARACTERS + 1))):
        assert ask(Request(messages=(QUESTION, call, last))).question == ""
    another = replace(QUESTION, images=(Image(data=b"gnp"),))
    assert ask(Request(messages=(pictured,))).key != ask(Request(messages=(another,))).key


@pytest.mark.parametrize(
    ("named", "fields", "same"),
    [
        (
            "small",
            {"prices": [{"input_usd_per_million_tokens": 9, "output_usd_per_million_tokens": 9}]},
            True,
        ),
        (
            "small",
            {"provider": {"kind": "openai", "base_url": "http://x/v1", "model": "newer"}},
            False,
        ),
        ("", {"quality": 0.9}, False),
    ],
)
def test_a_changed_catalogue_makes_other_requests(
    named: str, fields: dict[str, Any], *, same: bool
) -> None:
    request = a_request(model=named)
    changed = Snapshot(a_catalogue(a_model("small", **fields), a_model("large")), {}, "v2")
    assert (ask(request).key == ask(request, snapshot=changed).key) is same


def test_an_unknown_model_is_not_the_cache_s_matter() -> None:
    asked = a_request(model="unknown")
    assert ask_of(asked, tenant_id="ours", snapshot=SNAPSHOT, ttl_seconds=60) is None
