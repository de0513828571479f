"""Models and requests for tests, with only what matters spelled out."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import Catalogue, Model
from router_svc.decide.choice import Policy, choose
from router_svc.decide.kind import kind_of
from router_svc.decide.passage import find_passage
from router_svc.decide.ports import Unlimited
from router_svc.decide.records import Decision, Standing
from router_svc.decide.view import View
from router_svc.requests.records import Document, Message, Request, Role
from router_svc.tokens.families import TokenCounters, most_tokens

OPENAI = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "some-model"}
EXTRACTIVE = {"kind": "extractive"}
LONG_TEXT = "Rain fell on the valley all day. The river rose by a metre. " * 5


def priced(**fields: Any) -> dict[str, Any]:
    """Puts prices that are given as fields of the model where they belong."""
    price = {
        name: fields.pop(name) for name in list(fields) if name.endswith("_per_million_tokens")
    }
    return {"prices": [price]} | fields if price else fields


def a_model(name: str, **fields: Any) -> Model:
    return Model.model_validate(
        priced(
            **{
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
    )


def a_catalogue(*models: Model) -> Catalogue:
    return Catalogue(models=models)


def a_request(text: str = "What is this?", **fields: Any) -> Request:
    return Request(messages=(Message(Role.USER, text),), **fields)


def a_document(name: str = "report", text: str = "The river rose by a metre.") -> Document:
    return Document(id=name, title="", text=text)


class Resting:
    """An `Availability` where some models rest."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def of(self, model: Model) -> Standing:
        return Standing(resting="it is tired" if model.name in self._names else "")


def decide_on(
    request: Request,
    catalogue: Catalogue,
    *,
    resting: Collection[str] = (),
    policy: Policy | None = None,
    decision_id: UUID | None = None,
    **view: Any,
) -> Decision:
    """Decides as the service does, without what it asks others for."""
    counters = TokenCounters()
    names = {model.tokenizer for model in catalogue.models}
    seen = {
        "request": request,
        "counts": {name: counters.count(name, request) for name in names},
        "most_tokens": most_tokens(request),
        "has_text": find_passage(request) is not None,
        "kind": kind_of(request),
        "learnt": None,
        "moment": datetime(2026, 1, 1, tzinfo=UTC),
        "question_tokens": counters.estimate(request.question),
    }
    return choose(
        View(**(seen | view)),
        Snapshot(catalogue, {}, "v"),
        availability=Resting(resting),
        allowance=Unlimited(),
        policy=policy or Policy(),
        decision_id=decision_id or UUID(int=1),
    )
