"""Answers of the text verbs, as ModelService's responses have them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from model_svc.generation.ports import TextGenerator
from model_svc.ports import Ran, TextModel, TokenizedText
from model_svc.repository.shelf import Entry, State
from model_svc.repository.sources import TextUse
from model_svc.repository.text_models import TextModelEntry
from model_svc.text.compare import LabelScore
from model_svc.text.extract import Quote
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1 import text_model_pb2, text_pb2

_MICROSECONDS: Final = 1_000_000
_VERBS: Final[Mapping[TextUse, Sequence["text_model_pb2.TextVerb.ValueType"]]] = MappingProxyType(
    {
        TextUse.READS: (
            text_model_pb2.TEXT_VERB_TOKENIZE,
            text_model_pb2.TEXT_VERB_EMBED,
            text_model_pb2.TEXT_VERB_SCORE,
            text_model_pb2.TEXT_VERB_CLASSIFY,
            text_model_pb2.TEXT_VERB_RERANK,
            text_model_pb2.TEXT_VERB_ANSWER,
            text_model_pb2.TEXT_VERB_SUMMARIZE,
            text_model_pb2.TEXT_VERB_EXTRACT,
        ),
        TextUse.WRITES: (text_model_pb2.TEXT_VERB_GENERATE,),
    }
)
_STATES: Final = MappingProxyType(
    {
        State.LOADING: text_model_pb2.MODEL_VERSION_STATE_LOADING,
        State.READY: text_model_pb2.MODEL_VERSION_STATE_READY,
        State.UNLOADING: text_model_pb2.MODEL_VERSION_STATE_UNLOADING,
        State.UNAVAILABLE: text_model_pb2.MODEL_VERSION_STATE_UNAVAILABLE,
    }
)


def encode_text_model(entry: TextModelEntry) -> text_model_pb2.TextModel:
    """Returns a model that reads or writes texts."""
    encoded = text_model_pb2.TextModel(
        name=entry.name,
        is_default=entry.is_default,
        ready=entry.served is not None,
        versions=[_version(each) for each in entry.versions],
        verbs=_VERBS[entry.use],
    )
    if (served := entry.served) is not None:
        encoded.version = served.version
        encoded.device, encoded.fallback = served.model.device, served.model.fallback
        if served.text is not None:
            encoded.dimension = served.text.dimension
            encoded.matryoshka_dimensions.extend(served.text.matryoshka_dimensions)
            encoded.max_tokens = served.text.max_tokens
        elif served.generator is not None:
            encoded.max_tokens = served.generator.context
    return encoded


def _version(entry: Entry) -> text_model_pb2.TextModelVersion:
    return text_model_pb2.TextModelVersion(
        version=entry.version, state=_STATES[entry.state], reason=entry.reason
    )


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
