"""What requests may name as their model, as OpenAI lists models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.explain import unknown_model
from router_svc.openai_api.chat_request import AUTO
from router_svc.openai_api.embeddings import EmbeddingModel
from stepwire.errors import StepwireError

CHAT_PATH = "/v1/chat/completions"
EMBEDDINGS_PATH = "/v1/embeddings"
_OWNER = "stepwire"

_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """The models that can be named.

    Attributes:
        catalogue: Those that answer.
        embedding: Those that embed.
        missing: Why it is not known which embed; None if it is.
    """

    catalogue: Catalogue
    embedding: Sequence[EmbeddingModel] = ()
    missing: StepwireError | None = None


def listed(served: Served) -> bytes:
    """Returns the list: the name by which the router chooses, then the models by use.

    Without the models that embed, it says so.
    """
    body: _Entry = {"object": "list", "data": list(_entries(served).values())}
    if (missing := served.missing) is not None:
        told = {"code": missing.reason.value.lower(), "message": missing.message}
        body["stepwire"] = {"unavailable": {EMBEDDINGS_PATH: told}}
    return orjson.dumps(body)


def one(served: Served, name: str) -> bytes:
    """Returns one model of the list.

    Raises:
        StepwireError: MODEL_NOT_FOUND; DEPENDENCY_UNAVAILABLE, if it might be one that embeds,
            and it is not known which do.
    """
    entry = _entries(served).get(name)
    if entry is not None:
        return orjson.dumps(entry)
    raise served.missing or unknown_model(name)


def _entries(served: Served) -> dict[str, _Entry]:
    """The models by name; one that answers and embeds is there once."""
    entries = {AUTO: _entry(AUTO, _OWNER, {"endpoints": [CHAT_PATH]})}
    if any(model.is_default for model in served.embedding):
        entries[AUTO]["stepwire"]["endpoints"].append(EMBEDDINGS_PATH)
    for model in served.catalogue.models:
        entries.setdefault(model.name, _answering(model))
    for embedding in served.embedding:
        # Who says `auto` gets the default, whatever has that name.
        if embedding.name == AUTO:
            continue
        entry = entries.setdefault(
            embedding.name, _entry(embedding.name, _OWNER, {"endpoints": []})
        )
        entry["stepwire"]["endpoints"].append(EMBEDDINGS_PATH)
        entry["stepwire"]["embedding"] = _embedding(embedding)
    return entries


def _entry(name: str, owner: str, stepwire: _Entry) -> _Entry:
    # Neither the catalogue nor model_svc says since when it has a model.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner, "stepwire": stepwire}


def _answering(model: Model) -> _Entry:
    return _entry(
        model.name,
        model.provider.kind,
        {
            "endpoints": [CHAT_PATH],
            "tier": model.tier.value,
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "capabilities": sorted(model.capabilities),
        },
    )


def _embedding(model: EmbeddingModel) -> _Entry:
    return {
        "default": model.is_default,
        "dimension": model.dimension,
        "matryoshka_dimensions": model.matryoshka_dimensions,
        "max_tokens": model.max_tokens,
    }
