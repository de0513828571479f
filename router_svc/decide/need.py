"""The quality that a request needs: what the caller says, or an estimate."""

from router_svc.decide.records import Complexity, Need
from router_svc.requests.records import Request

# Answering from a text at hand is easier than from what a model remembers.
BASE_WITH_TEXT = 0.3
BASE_WITHOUT_TEXT = 0.5
HIGHEST = 0.9


def need_of(
    request: Request,
    complexity: Complexity,
    *,
    has_text: bool,
    sufficient: float | None = None,
) -> Need:
    """Returns the quality that `request` needs.

    Args:
        request: The request; a `min_quality` above 0 is taken as the need.
        complexity: How hard it seems.
        has_text: Whether there is a text to answer from.
        sufficient: What is enough where the qualities are predicted for this very
            request, so that its complexity is in them already; None where they are the
            catalogue's.
    """
    if request.min_quality > 0:
        return Need(request.min_quality, "asked for by min_quality", required=True)
    if sufficient is not None:
        return Need(sufficient, "enough, where quality is predicted", required=False)
    base = BASE_WITH_TEXT if has_text else BASE_WITHOUT_TEXT
    parts = [
        f"{base:.1f} for a question {'with' if has_text else 'without'} a text to answer from",
        *(f"{each.weight:g} because it {each.name}" for each in complexity.signals),
    ]
    quality = min(round(base + complexity.score, 3), HIGHEST)
    return Need(quality, "estimated: " + " + ".join(parts), required=False)
