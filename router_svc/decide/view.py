"""Looks at every model of the catalogue from one request's place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from router_svc.catalogue.kinds import Kind
from router_svc.catalogue.models import Model
from router_svc.decide.filters import Offer, output_tokens, rejections_of
from router_svc.decide.ports import Allowance, Availability
from router_svc.decide.records import Candidate
from router_svc.requests.records import Request
from router_svc.tokens.families import Counted

# Costs are compared for an answer of this length, or a shorter one where the limit is
# lower: few answers reach a model's limit, and ranking by limits would favour models
# for being allowed less.
EXPECTED_OUTPUT_TOKENS = 400
# More than any window, and what the API's fields hold.
MOST_TOKENS = 2**31 - 1
# No tokenizer in use makes more tokens of a text than it has bytes. What a chat
# template adds beyond what is counted stays below this share and this number.
_TEMPLATE_SHARE = 1.1
_TEMPLATE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Learnt:
    """Qualities by model, for one request, and which predictor gave them."""

    qualities: Mapping[str, float]
    version: int


@dataclass(frozen=True, slots=True)
class View:
    """A request, as it is when models are looked at.

    Attributes:
        request: The request.
        counts: The tokens of its texts, by the name of the tokenizer.
        most_tokens: Tokens of them that no tokenizer can exceed.
        has_text: Whether there is a text that could be quoted.
        kind: What kind of work it seems to be.
        learnt: Predicted qualities; None to go by the catalogue's.
        moment: Which prices hold.
        question_tokens: Tokens estimated for the last message.
        hardness: How much its meaning is like that of hard examples, 0 to 1; None when
            it is not known.
        blind: Whether its meaning was wanted and could not be had.
    """

    request: Request
    counts: Mapping[str, Counted]
    most_tokens: int
    has_text: bool
    kind: Kind | None
    learnt: Learnt | None
    moment: datetime
    question_tokens: int = 0
    hardness: float | None = None
    blind: bool = False


def look_at(
    model: Model, view: View, *, availability: Availability, allowance: Allowance
) -> Candidate:
    """Returns `model` as a candidate, rejected or not."""
    request = view.request
    counted = view.counts[model.tokenizer]
    price = model.price_at(view.moment)
    # A catalogue is refused that has a model without a price, and time only goes on.
    assert price is not None, f"{model.name} has no price"
    longest = output_tokens(model, request)
    pictures = request.pictures * model.image_tokens
    tokens = min(counted.tokens + pictures, MOST_TOKENS)
    expected = price.cost_micro_usd(tokens, min(longest, EXPECTED_OUTPUT_TOKENS))
    quality = _quality(model, view)
    left = allowance.left(request, model)
    offer = Offer(
        model=model,
        request=request,
        input_tokens=tokens,
        exact=counted.exact,
        quality=quality,
        cost_micro_usd=expected,
        left_micro_usd=None if left is None else left.micro_usd,
        has_text=view.has_text,
    )
    most = counted.tokens if counted.exact else view.most_tokens
    return Candidate(
        model=model,
        price=price,
        quality=quality,
        input_tokens=tokens,
        exact=counted.exact,
        cost_micro_usd=expected,
        worst_cost_micro_usd=price.worst_micro_usd(
            input_tokens=int(most * _TEMPLATE_SHARE) + _TEMPLATE_TOKENS + pictures,
            output_tokens=longest,
        ),
        standing=availability.of(model),
        rejections=rejections_of(offer),
    )


def _quality(model: Model, view: View) -> float:
    if view.learnt is not None:
        return view.learnt.qualities[model.name]
    return model.quality_for(view.kind)
