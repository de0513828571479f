"""Chance, standings and what is learnt, in the order of trying."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_svc.catalogue.kinds import Kind, Tier
from router_svc.decide.choice import Policy
from router_svc.decide.complexity import complexity_of
from router_svc.decide.features import features_of
from router_svc.decide.kind import kind_of
from router_svc.decide.order import order_of, seed_of
from router_svc.decide.records import DecisionReason, Need, RejectionCode, Standing
from router_svc.decide.view import Learnt
from router_svc.requests.records import Image, JsonSchema, Message, Request, Role, Tool
from stepwire.errors import StepwireError
from tests.unit.router_svc.router_builders import (
    LONG_TEXT,
    a_catalogue,
    a_model,
    a_request,
    decide_on,
)

DEAR = [{"input_usd_per_million_tokens": 9, "output_usd_per_million_tokens": 9}]
SMALL, LARGE = a_model("small", quality=0.6), a_model("large", quality=0.9, prices=DEAR)
MIDDLE = a_model("middle", quality=0.7, prices=[DEAR[0] | {"input_usd_per_million_tokens": 2}])
ALL = a_catalogue(SMALL, MIDDLE, LARGE)
NEED = Need(0.5, "for a test", required=False)


def test_draws_are_as_frequent_as_they_say() -> None:
    drawn: Counter[str] = Counter()
    said: dict[str, float] = {}
    for seed in range(1, 2001):
        decision = decide_on(a_request(seed=seed), ALL, policy=Policy(explore=0.3))
        drawn[decision.chosen.model.name] += 1
        said[decision.chosen.model.name] = decision.propensity
        explored = DecisionReason.EXPLORED in decision.reasons
        assert explored == (decision.chosen.model.name != "small")
    assert said == {
        "small": pytest.approx(0.8),
        "middle": pytest.approx(0.1),
        "large": pytest.approx(0.1),
    }
    for name, propensity in said.items():
        # Five standard deviations of 2,000 draws.
        assert abs(drawn[name] / 2000 - propensity) < 5 * (propensity * 0.9 / 2000) ** 0.5


def test_equal_requests_are_drawn_alike_and_seeds_apart() -> None:
    assert seed_of(a_request("one")) == seed_of(a_request("one"))
    assert seed_of(a_request("one")) != seed_of(a_request("two"))
    assert seed_of(a_request("one", seed=5)) == seed_of(a_request("two", seed=5))


def test_a_named_model_is_never_drawn_for() -> None:
    for seed in range(1, 50):
        decision = decide_on(a_request(model="small", seed=seed), ALL, policy=Policy(explore=0.5))
        assert decision.propensity == 1.0
        assert decision.reasons == (DecisionReason.NAMED, DecisionReason.ONLY_ELIGIBLE)


@given(seed=st.integers(0, 2**64 - 1), explore=st.floats(0, 1))
def test_who_rests_is_never_drawn(seed: int, explore: float) -> None:
    decision = decide_on(a_request(), ALL)
    tired = replace(decision.tries[0], standing=Standing(resting="it is tired"))
    order = order_of([tired, *decision.tries[1:]], NEED, explore=explore, seed=seed)
    assert order.tries[0] is not tired
    assert order.tries[-1] is tired
    assert 0 < order.propensity <= 1


def test_of_equal_cost_the_less_busy_one_goes_first() -> None:
    one, two = a_model("one"), a_model("two")
    first, second = decide_on(a_request(), a_catalogue(one, two)).tries
    busy = replace(first, standing=Standing(in_flight=5, latency_seconds=0.2))
    idle = replace(second, standing=Standing(in_flight=0, latency_seconds=0.9))
    tries = order_of([busy, idle], NEED, explore=0, seed=0).tries
    assert [each.model.name for each in tries] == ["two", "one"]


def test_a_better_one_that_rests_is_told_of() -> None:
    rested = decide_on(a_request(), ALL, resting={"small"})
    assert DecisionReason.BETTER_ONE_RESTS in rested.reasons
    unconcerned = decide_on(a_request(), ALL, resting={"large"})
    assert DecisionReason.BETTER_ONE_RESTS not in unconcerned.reasons


def test_learnt_qualities_take_the_place_of_the_catalogue() -> None:
    learnt = Learnt({"small": 0.4, "middle": 0.8, "large": 0.95}, version=4)
    decision = decide_on(a_request(), ALL, learnt=learnt, policy=Policy(sufficient=0.75))
    assert decision.chosen.model.name == "middle"
    assert decision.predictor_version == 4
    assert DecisionReason.LEARNT_QUALITY in decision.reasons
    assert decision.need.quality == 0.75
    strict = decide_on(a_request(min_quality=0.9), ALL, learnt=learnt)
    assert [each.model.name for each in strict.tries] == ["large"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"min_tier": Tier.LARGE}, RejectionCode.TIER),
        ({"language": "fi"}, RejectionCode.LANGUAGE),
        ({"tools": (Tool("look_up"),)}, RejectionCode.CAPABILITY),
        ({"json_schema": JsonSchema({"type": "object"})}, RejectionCode.CAPABILITY),
        ({"max_cost_micro_usd": 1}, RejectionCode.COST),
        ({"max_output_tokens": 400, "min_quality": 0.99}, RejectionCode.QUALITY),
    ],
)
def test_each_rejection_has_its_code(fields: dict[str, object], code: RejectionCode) -> None:
    with pytest.raises(StepwireError):
        decide_on(a_request(**fields), a_catalogue(a_model("only", languages=["en"])))
    able = a_model(
        "able",
        tier="large",
        quality=1.0,
        capabilities=["tools", "json"],
        prices=[{"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}],
    )
    decision = decide_on(a_request(**fields), a_catalogue(a_model("only", languages=["en"]), able))
    (rejected,) = decision.rejected
    assert [each.code for each in rejected.rejections] == [code]


def test_pictures_need_eyes() -> None:
    request = Request((Message(Role.USER, "What is this?", images=(Image(url="https://x/y"),)),))
    assert request.needed_capabilities == ("vision",)


def test_no_cost_exceeds_the_worst() -> None:
    for text in ("x", "日本語のテキスト", LONG_TEXT):
        candidate = decide_on(a_request(text), ALL).chosen
        assert candidate.cost_micro_usd <= candidate.worst_cost_micro_usd
        spent = candidate.price.cost_micro_usd(
            len(text.encode()) + 10, candidate.model.max_output_tokens
        )
        assert spent <= candidate.worst_cost_micro_usd


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Translate this into German: good day", Kind.TRANSLATION),
        ("Summarise the article.", Kind.SUMMARY),
        ("List all names in the letter.", Kind.EXTRACTION),
        ("Fix this function: ```def f(): pass```", Kind.CODE),
        ("Which column of the CSV is the longest?", Kind.DATA),
        ("Solve 3 + 4.", Kind.MATHS),
        ("Write a poem.", Kind.WRITING),
        ("Why is that?", Kind.REASONING),
        ("Hello!", Kind.CHAT),
        ("Where is the river?", None),
    ],
)
def test_words_tell_the_kind_of_work(text: str, kind: Kind | None) -> None:
    assert kind_of(a_request(text)) is kind


def test_nearness_tells_it_where_words_do_not_if_it_is_clear() -> None:
    request = a_request("Where is the river?")
    assert kind_of(request, {Kind.CHAT: 0.6, Kind.DATA: 0.4}) is Kind.CHAT
    assert kind_of(request, {Kind.CHAT: 0.6, Kind.DATA: 0.59}) is None
    assert kind_of(request, {Kind.CHAT: 0.2, Kind.DATA: 0.1}) is None
    assert kind_of(a_request("Solve 3 + 4."), {Kind.CHAT: 0.9, Kind.DATA: 0.1}) is Kind.MATHS


def test_the_quality_of_the_kind_counts() -> None:
    poor = a_model("poor", quality=0.9, quality_by_kind={"maths": 0.1})
    catalogue = a_catalogue(poor, a_model("fair", quality=0.8, prices=DEAR))
    assert decide_on(a_request("Solve 3 + 4."), catalogue).chosen.model.name == "fair"
    assert decide_on(a_request("Hello!"), catalogue).chosen.model.name == "poor"


def test_tools_and_hardness_raise_the_complexity() -> None:
    tools = a_request("Go.", tools=(Tool("a"), Tool("b")))
    assert complexity_of(tools, question_tokens=2).score == pytest.approx(0.2)
    assert complexity_of(a_request("Go."), question_tokens=2, hardness=0.9).score == 0.16
    assert complexity_of(a_request("Go."), question_tokens=2, hardness=0.2).score == 0.0


@given(text=st.text(max_size=300))
def test_features_are_finite_and_of_one_shape(text: str) -> None:
    features = features_of(a_request(text))
    assert features.shape == features_of(a_request("x")).shape
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 100
