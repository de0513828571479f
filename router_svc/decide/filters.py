"""The rules that keep a model out, each with its code and the reason in words."""

from collections.abc import Callable
from dataclasses import dataclass

from router_svc.catalogue.models import Model
from router_svc.decide.passage import MIN_CHARACTERS, MIN_SENTENCES
from router_svc.decide.records import Rejection, RejectionCode
from router_svc.requests.records import Request


@dataclass(frozen=True, slots=True)
class Offer:
    """One model before one request, as the rules see them.

    Attributes:
        model: The model.
        request: The request.
        input_tokens: Tokens that the model would read for it.
        exact: Whether they were counted by its own tokenizer.
        quality: Predicted for this request.
        cost_micro_usd: Expected cost.
        left_micro_usd: What budgets have left for it; None without budgets.
        has_text: Whether there is a text that could be quoted.
    """

    model: Model
    request: Request
    input_tokens: int
    exact: bool
    quality: float
    cost_micro_usd: int
    left_micro_usd: int | None
    has_text: bool


def output_tokens(model: Model, request: Request) -> int:
    """Returns the longest answer that `model` would be allowed for `request`, in tokens."""
    if request.max_output_tokens == 0:
        return model.max_output_tokens
    return min(request.max_output_tokens, model.max_output_tokens)


def _not_the_named_one(offer: Offer) -> str:
    named = offer.request.model
    return f"the request names {named}" if named and named != offer.model.name else ""


def _lacks_capability(offer: Offer) -> str:
    has = offer.model.capabilities
    missing = [name for name in offer.request.needed_capabilities if name not in has]
    return f"lacks the capability {', '.join(missing)}" if missing else ""


def _tier_too_low(offer: Offer) -> str:
    asked = offer.request.min_tier
    if asked is None or offer.model.tier.rank >= asked.rank:
        return ""
    return f"its tier {offer.model.tier} is below {asked}"


def _lacks_language(offer: Offer) -> str:
    asked, known = offer.request.language, offer.model.languages
    return f"does not list the language {asked}" if asked and known and asked not in known else ""


def _below_quality(offer: Offer) -> str:
    asked = offer.request.min_quality
    return f"quality {offer.quality:.3g} is below {asked:g}" if offer.quality < asked else ""


def _window_too_small(offer: Offer) -> str:
    answer = output_tokens(offer.model, offer.request)
    if offer.input_tokens + answer <= offer.model.context_window:
        return ""
    counted = "" if offer.exact else "an estimated "
    return (
        f"its context window of {offer.model.context_window} tokens is too small for {counted}"
        f"{offer.input_tokens} tokens of request and {answer} of answer"
    )


def _nothing_to_quote(offer: Offer) -> str:
    if not offer.model.quotes_only or offer.has_text:
        return ""
    return (
        f"it can only quote, and there are no documents and no message of {MIN_CHARACTERS} "
        f"characters and {MIN_SENTENCES} sentences to quote from"
    )


def _too_dear(offer: Offer) -> str:
    limit = offer.request.max_cost_micro_usd
    if not limit or offer.cost_micro_usd <= limit:
        return ""
    return f"its expected cost of {offer.cost_micro_usd} micro-dollars is above {limit}"


def _no_budget(offer: Offer) -> str:
    left = offer.left_micro_usd
    if left is None or offer.cost_micro_usd <= left:
        return ""
    return (
        f"its expected cost of {offer.cost_micro_usd} micro-dollars is above the {left} that "
        "budgets have left"
    )


# In the order in which a reader would want to know.
RULES: tuple[tuple[RejectionCode, Callable[[Offer], str]], ...] = (
    (RejectionCode.NOT_NAMED, _not_the_named_one),
    (RejectionCode.CAPABILITY, _lacks_capability),
    (RejectionCode.TIER, _tier_too_low),
    (RejectionCode.LANGUAGE, _lacks_language),
    (RejectionCode.QUALITY, _below_quality),
    (RejectionCode.WINDOW, _window_too_small),
    (RejectionCode.NOTHING_TO_QUOTE, _nothing_to_quote),
    (RejectionCode.COST, _too_dear),
    (RejectionCode.BUDGET, _no_budget),
)


def rejections_of(offer: Offer) -> tuple[Rejection, ...]:
    """Returns why the model may not answer; empty when it may."""
    return tuple(Rejection(code, told) for code, rule in RULES if (told := rule(offer)))
