"""Models and requests for tests, with only what matters spelled out."""

from typing import Any

from router_svc.catalogue.models import Catalogue, Model
from router_svc.requests.records import Document, Message, Request, Role

OPENAI = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "some-model"}
EXTRACTIVE = {"kind": "extractive"}
LONG_TEXT = "Rain fell on the valley all day. The river rose by a metre. " * 5


def a_model(name: str, **fields: Any) -> Model:
    return Model.model_validate(
        {
            "name": name,
            "provider": OPENAI,
            "context_window": 10_000,
            "max_output_tokens": 500,
            "quality": 0.5,
            "input_usd_per_million_tokens": 1,
            "output_usd_per_million_tokens": 2,
            **fields,
        }
    )


def a_catalogue(*models: Model) -> Catalogue:
    return Catalogue(models=models)


def a_request(text: str = "What is this?", **fields: Any) -> Request:
    return Request(messages=(Message(Role.USER, text),), **fields)


def a_document(name: str = "report", text: str = "The river rose by a metre.") -> Document:
    return Document(id=name, title="", text=text)
