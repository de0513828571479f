"""Decide and what is learnt from it, through gRPC, as the service runs."""

from pathlib import Path
from typing import Any

import yaml

from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.decision_pb2 import (
    DECISION_REASON_CHEAPEST_SUFFICIENT,
    DECISION_REASON_WITHOUT_EMBEDDING,
    REJECTION_CODE_CAPABILITY,
    REJECTION_CODE_COST,
    REJECTION_CODE_LANGUAGE,
    REJECTION_CODE_TIER,
    Decision,
)
from stepwire.api.router.v1.message_pb2 import Tool
from stepwire.api.router.v1.requirements_pb2 import TIER_LARGE, Requirements
from stepwire.errors import Reason
from stepwire.testing.poll import eventually
from tests.integration.router_svc.extract_service import ExtractService
from tests.integration.router_svc.running_router import (
    ask,
    chat_model,
    error_of,
    running_router,
)

NOWHERE = "http://127.0.0.1:1/v1"


def tier(name: str, quality: float, dollars: float, **fields: Any) -> dict[str, Any]:
    price = {
        "input_usd_per_million_tokens": dollars,
        "output_usd_per_million_tokens": dollars,
    }
    return chat_model(name, NOWHERE, tier=name, quality=quality, prices=[price], **fields)


SMALL = tier("small", 0.55, 0.1, languages=["en"])
BALANCED = tier("balanced", 0.7, 1.0, capabilities=["tools"])
LARGE = tier("large", 0.9, 10.0, capabilities=["tools", "json"])


async def decided(stub: Any, request: pb.GenerateRequest) -> Decision:
    return (await stub.Decide(pb.DecideRequest(request=request))).decision


def rejected(decision: Decision) -> dict[str, list[int]]:
    return {
        each.model: list(each.rejection_codes)
        for each in decision.candidates
        if each.rejection_codes
    }


async def test_a_decision_tells_programs_all_that_it_tells_people(tmp_path: Path) -> None:
    async with running_router(tmp_path, LARGE, BALANCED, SMALL) as stub:
        decision = await decided(stub, ask("Explain why the river rose."))
        again = await decided(stub, ask("Explain why the river rose."))
    assert decision.model == "balanced"
    assert list(decision.reasons) == [
        DECISION_REASON_CHEAPEST_SUFFICIENT,
        # model_svc is away.
        DECISION_REASON_WITHOUT_EMBEDDING,
    ]
    assert decision.complexity.score == 0.2
    assert [signal.name for signal in decision.complexity.signals] == ["asks for reasoning"]
    assert decision.kind == "reasoning"
    assert decision.needed_quality == 0.7
    assert decision.propensity == 1.0
    assert decision.catalogue_version
    assert decision.decision_id != again.decision_id
    chosen = decision.candidates[0]
    assert 0 < chosen.cost_micro_usd < chosen.worst_cost_micro_usd
    decision.decision_id = again.decision_id
    assert decision == again


async def test_what_a_request_shows_and_asks_keeps_models_out(tmp_path: Path) -> None:
    async with running_router(tmp_path, SMALL, BALANCED, LARGE) as stub:
        tools = await decided(stub, ask(tools=[Tool(name="look_up")]))
        high = await decided(stub, ask(requirements=Requirements(min_tier=TIER_LARGE)))
        german = await decided(stub, ask(requirements=Requirements(language="de")))
        cheap = await decided(stub, ask(requirements=Requirements(max_cost_micro_usd=1_000)))
    assert rejected(tools) == {"small": [REJECTION_CODE_CAPABILITY]}
    assert rejected(high) == {name: [REJECTION_CODE_TIER] for name in ("small", "balanced")}
    assert rejected(german) == {"small": [REJECTION_CODE_LANGUAGE]}
    assert rejected(cheap) == {"large": [REJECTION_CODE_COST]}


async def test_meaning_tells_the_kind_where_no_word_does(
    tmp_path: Path, extractor: ExtractService
) -> None:
    # A sentence of the packaged examples.
    request = ask("Put this letter into French.", requirements=Requirements(min_quality=0.1))
    async with running_router(
        tmp_path,
        SMALL,
        LARGE,
        model_target=extractor.target,
        # Long enough for a busy machine.
        embedding_deadline_seconds=5,
    ) as stub:

        async def is_known() -> bool:
            decision = await decided(stub, request)
            assert DECISION_REASON_WITHOUT_EMBEDDING not in decision.reasons
            return decision.kind == "translation"

        await eventually(is_known)


async def test_a_changed_catalogue_takes_effect_and_a_broken_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    async with running_router(tmp_path, SMALL, catalogue_reload_seconds=0.02) as stub:
        before = await stub.ListModels(pb.ListModelsRequest())

        async def listed(*names: str) -> pb.ListModelsResponse:
            found = await stub.ListModels(pb.ListModelsRequest())
            assert [model.name for model in found.models] == list(names)
            return found

        path.write_text(yaml.safe_dump({"models": [SMALL, LARGE]}))
        after = await eventually(lambda: listed("small", "large"))
        assert after.catalogue_version != before.catalogue_version
        assert (await decided(stub, ask(requirements=Requirements(model="large")))).model == "large"

        path.write_text(yaml.safe_dump({"models": [SMALL | {"quality": 7}]}))

        async def refused() -> bool:
            found = await listed("small", "large")
            return "models[0] (small): quality: " in found.refused and "(line " in found.refused

        await eventually(refused)
        path.write_text(yaml.safe_dump({"models": [SMALL]}))
        healed = await eventually(lambda: listed("small"))
        assert not healed.refused
        assert healed.catalogue_version == before.catalogue_version


async def test_an_outcome_is_reported_for_a_decision(tmp_path: Path, database_url: str) -> None:
    async with running_router(tmp_path, SMALL, LARGE, postgres_url=database_url) as stub:
        decision = await decided(stub, ask())
        report = pb.ReportOutcomeRequest(decision_id=decision.decision_id, score=0.7)
        await stub.ReportOutcome(report)
        report.chosen_alternative = "large"
        await stub.ReportOutcome(report)
        unknown = pb.ReportOutcomeRequest(
            decision_id="01900000-0000-7000-8000-000000000000", success=True
        )
        error = await error_of(stub.ReportOutcome(unknown))
        assert error.reason is Reason.DECISION_NOT_FOUND
        for faulty, field in (
            ({"decision_id": "x", "success": True}, "decision_id"),
            ({"decision_id": decision.decision_id}, "outcome"),
            ({"decision_id": decision.decision_id, "score": 1.5}, "score"),
        ):
            error = await error_of(stub.ReportOutcome(pb.ReportOutcomeRequest(**faulty)))
            assert error.reason is Reason.FIELD_INVALID
            assert error.metadata == {"field": field}


async def test_without_a_record_no_decision_is_known(tmp_path: Path) -> None:
    async with running_router(tmp_path, SMALL) as stub:
        decision = await decided(stub, ask())
        report = pb.ReportOutcomeRequest(decision_id=decision.decision_id, success=True)
        error = await error_of(stub.ReportOutcome(report))
    assert error.reason is Reason.DECISION_NOT_FOUND
