"""The rules that keep a model out, each with the reason in words."""

from collections.abc import Callable
from dataclasses import dataclass

from router_svc.catalogue.models import Model
from router_svc.requests.records import Request


@dataclass(frozen=True, slots=True)
class Demands:
    """A request as the rules see it.

    Attributes:
        request: The request.
        input_tokens: Tokens that a model would read for it.
        has_text: Whether there is a text that could be quoted.
    """

    request: Request
    input_tokens: int
    has_text: bool


def output_tokens(model: Model, request: Request) -> int:
    """Returns the longest answer that `model` would be allowed for `request`, in tokens."""
    if request.max_output_tokens == 0:
        return model.max_output_tokens
    return min(request.max_output_tokens, model.max_output_tokens)


def _not_the_named_one(model: Model, demands: Demands) -> str:
    named = demands.request.model
    return f"the request names {named}" if named and named != model.name else ""


def _lacks_capability(model: Model, demands: Demands) -> str:
    missing = [name for name in demands.request.capabilities if name not in model.capabilities]
    return f"lacks the capability {', '.join(missing)}" if missing else ""


def _below_quality(model: Model, demands: Demands) -> str:
    asked = demands.request.min_quality
    return f"quality {model.quality:g} is below {asked:g}" if model.quality < asked else ""


def _window_too_small(model: Model, demands: Demands) -> str:
    answer = output_tokens(model, demands.request)
    if demands.input_tokens + answer <= model.context_window:
        return ""
    return (
        f"its context window of {model.context_window} tokens is too small for an estimated "
        f"{demands.input_tokens} tokens of request and {answer} of answer"
    )


def _nothing_to_quote(model: Model, demands: Demands) -> str:
    if not model.quotes_only or demands.has_text:
        return ""
    return "it can only quote, and there are no documents and no text to quote from"


# In the order in which a reader would want to know.
RULES: tuple[Callable[[Model, Demands], str], ...] = (
    _not_the_named_one,
    _lacks_capability,
    _below_quality,
    _window_too_small,
    _nothing_to_quote,
)


def rejection(model: Model, demands: Demands) -> str:
    """Returns why `model` may not answer, or "" when it may."""
    reasons = [reason for rule in RULES if (reason := rule(model, demands))]
    return "; ".join(reasons)
