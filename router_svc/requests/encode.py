"""Turns the domain's answers into those of the API."""

from router_svc.catalogue.models import Catalogue
from router_svc.decide.choice import Candidate, Decision
from router_svc.generate.pipeline import Answer
from stepwire.api.router.v1 import catalogue_pb2 as catalogue_pb
from stepwire.api.router.v1 import decision_pb2 as decision_pb
from stepwire.api.router.v1 import message_pb2 as message_pb
from stepwire.api.router.v1 import router_service_pb2 as pb


def encode_answer(answer: Answer) -> pb.GenerateResponse:
    """Returns `answer` as a response."""
    return pb.GenerateResponse(
        text=answer.text,
        citations=[
            message_pb.Citation(document_id=citation.document_id, quote=citation.quote)
            for citation in answer.citations
        ],
        model=answer.model,
        usage=message_pb.Usage(
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            cost_micro_usd=answer.cost_micro_usd,
        ),
        decision=encode_decision(answer.decision),
    )


def encode_decision(decision: Decision) -> decision_pb.Decision:
    """Returns `decision` with its candidates, the chosen one first, the rejected last."""
    return decision_pb.Decision(
        model=decision.chosen.model.name,
        explanation=decision.explanation,
        candidates=[_candidate(each) for each in (*decision.tries, *decision.rejected)],
        input_tokens=decision.input_tokens,
    )


def encode_catalogue(catalogue: Catalogue) -> pb.ListModelsResponse:
    """Returns the models without what is the operator's: addresses and keys."""
    return pb.ListModelsResponse(
        models=[
            catalogue_pb.CatalogueModel(
                name=model.name,
                provider=model.provider.kind,
                context_window=model.context_window,
                quality=model.quality,
                capabilities=sorted(model.capabilities),
                input_price_micro_usd=model.input_price_micro_usd,
                output_price_micro_usd=model.output_price_micro_usd,
            )
            for model in catalogue.models
        ]
    )


def _candidate(candidate: Candidate) -> decision_pb.Candidate:
    return decision_pb.Candidate(
        model=candidate.model.name,
        quality=candidate.model.quality,
        cost_micro_usd=candidate.cost_micro_usd,
        rejected=candidate.rejected,
    )
