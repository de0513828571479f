"""Turns the domain's answers into those of the API."""

from router_svc.decide.codec import encode_decision
from router_svc.generate.pipeline import Answer
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
