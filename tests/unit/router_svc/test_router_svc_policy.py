from typing import Any

import pytest

from router_svc.decide.codec import encode_decision
from router_svc.decide.records import Decision
from router_svc.requests.records import Image, Message, Request, Role
from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.router_builders import (
    EXTRACTIVE,
    LONG_TEXT,
    a_catalogue,
    a_document,
    a_model,
    a_request,
    decide_on,
)

FREE = {"input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}
QUOTES = a_model("quotes", provider=EXTRACTIVE, quality=0.35, capabilities=["grounding"], **FREE)
SMALL = a_model("small", quality=0.6)
LARGE = a_model("large", quality=0.9, input_usd_per_million_tokens=10, capabilities=["json"])
ALL = a_catalogue(QUOTES, SMALL, LARGE)


def decision_on(request: Request, **fields: Any) -> Decision:
    return decide_on(request, **{"catalogue": ALL, **fields})


def order_of(decision: Decision) -> list[str]:
    return [candidate.model.name for candidate in decision.tries]


def rejections_of(decision: Decision) -> dict[str, str]:
    return {candidate.model.name: candidate.rejected for candidate in decision.rejected}


def test_a_lookup_in_documents_goes_to_the_model_that_quotes() -> None:
    decision = decision_on(a_request("How high was the river?", documents=(a_document(),)))
    assert order_of(decision) == ["quotes", "small", "large"]
    assert decision.explanation == (
        "quality 0.3 is needed (estimated: 0.3 for a question with a text to answer from); "
        "quotes (0.35) is the cheapest that has it"
    )


def test_without_documents_that_model_is_rejected() -> None:
    decision = decision_on(a_request("How high was the river?"))
    assert order_of(decision) == ["small", "large"]
    assert "nothing" not in rejections_of(decision)
    assert rejections_of(decision) == {
        "quotes": "it can only quote, and there are no documents and no message of 200 "
        "characters and 3 sentences to quote from"
    }


def test_a_long_message_is_a_text_to_quote_from() -> None:
    assert order_of(decision_on(a_request("Summarise: " + LONG_TEXT)))[0] == "quotes"


@pytest.mark.parametrize(
    ("question", "sign"),
    [
        ("Explain how the river rose.", "asks for reasoning"),
        ("Why did the river rise?", "asks for reasoning"),
        ("Fix this: ```x = 1```", "is about code"),
        ("Which SQL finds it?", "is about code"),
        ("What is 17 * 23?", "asks for mathematics"),
        ("Please write a poem on it.", "asks for new text"),
        ("Where was it? When was it? Who saw it?", "has several parts"),
        ("1. Find the date.\n2. Find the place.", "has several parts"),
        ("First find the date, then the place, finally the name.", "has several parts"),
        ("rain " * 300, "is long"),
        ("rain " * 900, "is very long"),
    ],
)
def test_signs_of_difficulty_raise_the_need(question: str, sign: str) -> None:
    plain = decision_on(a_request("How high was it?", documents=(a_document(),)))
    hard = decision_on(a_request(question, documents=(a_document(),)))
    assert sign not in plain.explanation
    assert f"because it {sign}" in hard.explanation


def test_a_hard_question_on_documents_leaves_the_cheapest_model() -> None:
    question = "Compare the two reports and explain why they differ."
    decision = decision_on(a_request(question, documents=(a_document(),)))
    assert order_of(decision)[0] == "small"


def test_words_that_name_things_are_no_commands() -> None:
    question = "What does the plan say about the draft design?"
    decision = decision_on(a_request(question, documents=(a_document(),)))
    assert order_of(decision)[0] == "quotes"


def test_a_long_conversation_raises_the_need() -> None:
    turn = (Message(Role.USER, "And?"), Message(Role.ASSISTANT, "Yes."))
    request = Request(messages=(*turn, *turn, *turn, Message(Role.USER, "And?")))
    assert "is late in a conversation" in decision_on(request).explanation


def test_a_stated_quality_takes_the_place_of_the_estimate() -> None:
    decision = decision_on(a_request("Hello", min_quality=0.7, documents=(a_document(),)))
    assert order_of(decision) == ["large"]
    assert decision.explanation.startswith("quality 0.7 is needed (asked for by min_quality)")
    assert rejections_of(decision) == {
        "quotes": "quality 0.35 is below 0.7",
        "small": "quality 0.6 is below 0.7",
    }


def test_an_estimated_need_that_nobody_meets_is_no_refusal() -> None:
    question = "Explain step by step, in Python, how to calculate 3 + 4. Then write a proof."
    decision = decision_on(a_request(question), catalogue=a_catalogue(QUOTES, SMALL))
    assert order_of(decision) == ["small"]
    assert "no model that may answer has it, and small (0.6) is nearest" in decision.explanation


def test_a_named_model_is_the_only_one() -> None:
    decision = decision_on(a_request(model="large"))
    assert order_of(decision) == ["large"]
    assert decision.explanation == "large is named by the request"
    assert rejections_of(decision)["small"] == "the request names large"


def test_capabilities_must_be_had() -> None:
    decision = decision_on(a_request(capabilities=("json",)))
    assert order_of(decision) == ["large"]
    assert rejections_of(decision)["small"] == "lacks the capability json"


def test_request_and_answer_must_fit_into_the_window() -> None:
    text = "rain " * 600  # 3,000 characters: 811 tokens by the estimate
    tight = a_model("tight", context_window=1_000, max_output_tokens=500)
    wide = a_model("wide", quality=0.9, input_usd_per_million_tokens=50)
    catalogue = a_catalogue(tight, wide)
    decision = decision_on(a_request(text), catalogue=catalogue)
    assert order_of(decision) == ["wide"]
    assert "context window of 1000 tokens is too small" in rejections_of(decision)["tight"]
    shorter = decision_on(a_request(text, max_output_tokens=50), catalogue=catalogue)
    assert rejections_of(shorter) == {}


def test_every_reason_is_told() -> None:
    decision = decision_on(a_request(min_quality=0.5, capabilities=("json",)))
    assert rejections_of(decision)["quotes"] == (
        "lacks the capability json; quality 0.35 is below 0.5; "
        "it can only quote, and there are no documents and no message of 200 "
        "characters and 3 sentences to quote from"
    )


def test_nobody_eligible_is_an_error_with_all_reasons() -> None:
    with pytest.raises(StepwireError) as caught:
        decision_on(a_request(capabilities=("telepathy",), documents=(a_document(),)))
    assert caught.value.reason is Reason.NO_ELIGIBLE_MODEL
    assert caught.value.metadata == {
        f"rejected.{name}": "lacks the capability telepathy"
        for name in ("quotes", "small", "large")
    }


def test_the_fallbacks_of_the_chosen_model_come_before_cheaper_ones() -> None:
    chosen = a_model("chosen", **FREE, fallbacks=["dear", "absent"])
    cheap = a_model("cheap")
    dear = a_model("dear", input_usd_per_million_tokens=99)
    absent = a_model("absent", context_window=501)
    decision = decision_on(a_request(), catalogue=a_catalogue(cheap, dear, absent, chosen))
    assert order_of(decision) == ["chosen", "dear", "cheap"]
    assert list(rejections_of(decision)) == ["absent"]


def test_models_that_meet_the_need_are_tried_before_those_that_do_not() -> None:
    weak, weaker = a_model("weak", quality=0.3, **FREE), a_model("weaker", quality=0.1, **FREE)
    decision = decision_on(a_request(), catalogue=a_catalogue(weaker, weak, LARGE, SMALL))
    assert order_of(decision) == ["small", "large", "weak", "weaker"]


def test_the_catalogue_order_breaks_ties() -> None:
    one, two = a_model("one"), a_model("two")
    assert order_of(decision_on(a_request(), catalogue=a_catalogue(two, one))) == ["two", "one"]


def test_a_model_that_rests_is_tried_last() -> None:
    request = a_request("How high was the river?", documents=(a_document(),))
    decision = decision_on(request, resting={"quotes"})
    assert order_of(decision) == ["small", "large", "quotes"]
    assert decision.explanation.endswith(
        "small (0.6) is the cheapest that has it, quotes being left to rest after failures"
    )


def test_a_fallback_that_rests_waits_with_the_others() -> None:
    chosen = a_model("chosen", **FREE, fallbacks=["tired"])
    catalogue = a_catalogue(chosen, a_model("tired", **FREE), SMALL)
    decision = decision_on(a_request(), catalogue=catalogue, resting={"tired"})
    assert order_of(decision) == ["chosen", "small", "tired"]


def test_expected_cost_counts_an_answer_of_ordinary_length() -> None:
    model = a_model("m", max_output_tokens=8_000, input_usd_per_million_tokens=0)
    catalogue = a_catalogue(model)
    assert decision_on(a_request(), catalogue=catalogue).chosen.cost_micro_usd == 400 * 2
    short = decision_on(a_request(max_output_tokens=100), catalogue=catalogue)
    assert short.chosen.cost_micro_usd == 100 * 2


def test_more_tokens_than_any_model_reads_are_told_as_many() -> None:
    pictures = tuple(Image(url="https://x/a.png") for _ in range(3))
    request = Request(messages=(Message(Role.USER, "What is this?", images=pictures),))
    vast = a_model("vast", capabilities=["vision"], image_tokens=2**31 - 1)
    catalogue = a_catalogue(a_model("fine", capabilities=["vision"]), vast)
    told = encode_decision(decide_on(request, catalogue)).candidates
    assert [(each.model, bool(each.rejected)) for each in told] == [("fine", False), ("vast", True)]
    assert told[1].input_tokens == 2**31 - 1
