"""The catalogue as OpenAI lists models."""

from typing import Any

import orjson

from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.explain import unknown_model
from router_svc.openai_api.chat_request import AUTO

_OWNER = "stepwire"


def listed(catalogue: Catalogue) -> bytes:
    """Returns the list: the name by which the router chooses, then the models."""
    return orjson.dumps(
        {"object": "list", "data": [_auto(), *(_model(each) for each in catalogue.models)]}
    )


def one(catalogue: Catalogue, name: str) -> bytes:
    """Returns one model.

    Raises:
        StepwireError: MODEL_NOT_FOUND.
    """
    if name == AUTO:
        return orjson.dumps(_auto())
    model = catalogue.find(name)
    if model is None:
        raise unknown_model(name)
    return orjson.dumps(_model(model))


def _auto() -> dict[str, Any]:
    return {"id": AUTO, "object": "model", "created": 0, "owned_by": _OWNER}


def _model(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        # The catalogue does not say since when it has a model.
        "created": 0,
        "owned_by": model.provider.kind,
        "stepwire": {
            "tier": model.tier.value,
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "capabilities": sorted(model.capabilities),
        },
    }
