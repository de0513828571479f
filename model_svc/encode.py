"""Answers of the text verbs, as ModelService's responses have them."""

from collections.abc import Sequence
from typing import Final

from model_svc.generation.ports import TextGenerator
from model_svc.ports import Ran, TextModel, TokenizedText
from model_svc.text.compare import LabelScore
from model_svc.text.extract import Quote
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_pb2

_MICROSECONDS: Final = 1_000_000


def encode_run(ran: Ran, model: TextModel | TextGenerator) -> text_pb2.Run:
    """Returns how a call was carried out."""
    return text_pb2.Run(
        queue_us=int(ran.timings.queue * _MICROSECONDS),
        tokenize_us=int(ran.timings.tokenize * _MICROSECONDS),
        compute_us=int(ran.timings.compute * _MICROSECONDS),
        batch_texts=ran.batch_items,
        device=ran.device,
        fallback=model.fallback,
        cached=ran.cached,
    )


def encode_tokens(text: TokenizedText) -> text_pb2.TextTokens:
    """Returns the tokens of one text."""
    return text_pb2.TextTokens(
        ids=text.ids,
        tokens=text.tokens,
        starts=[start for start, _ in text.offsets],
        ends=[end for _, end in text.offsets],
    )


def encode_classification(labels: Sequence[LabelScore]) -> text_pb2.Classification:
    """Returns what one text was taken for."""
    return text_pb2.Classification(
        labels=[
            text_pb2.LabelScore(label=label.label, score=label.score, share=label.share)
            for label in labels
        ]
    )


def encode_quotes(quotes: Sequence[Quote]) -> list[pb.Quote]:
    """Returns sentences quoted."""
    return [
        pb.Quote(document_id=quote.document_id, text=quote.text, score=quote.score)
        for quote in quotes
    ]
