"""Turns the domain's answers into those of the API."""

from router_svc.catalogue import Catalogue
from router_svc.policy import Candidate, Decision
from router_svc.router import Answer
from stepwire.api.router.v1 import router_service_pb2 as pb


def encode_answer(answer: Answer) -> pb.GenerateResponse:
    """Returns `answer` as a response."""
    return pb.GenerateResponse(
        text=answer.text,
        citations=[
            pb.Citation(document_id=citation.document_id, quote=citation.quote)
            for citation in answer.citations
        ],
        model=answer.model,
        usage=pb.Usage(
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            cost_micro_usd=answer.cost_micro_usd,
        ),
        decision=encode_decision(answer.decision),
    )


def encode_decision(decision: Decision) -> pb.Decision:
    """Returns `decision` with its candidates, the chosen one first, the rejected last."""
    return pb.Decision(
        model=decision.chosen.model.name,
        explanation=decision.explanation,
        candidates=[_candidate(each) for each in (*decision.tries, *decision.rejected)],
        input_tokens=decision.input_tokens,
    )


def encode_catalogue(catalogue: Catalogue) -> pb.ListModelsResponse:
    """Returns the models without what is the operator's: addresses and keys."""
    return pb.ListModelsResponse(
        models=[
            pb.CatalogueModel(
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


def _candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        model=candidate.model.name,
        quality=candidate.model.quality,
        cost_micro_usd=candidate.cost_micro_usd,
        rejected=candidate.rejected,
    )
