"""Puts the models that may answer into the order in which they are tried."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from router_svc.decide.records import Candidate, Need
from router_svc.requests.records import Request


@dataclass(frozen=True, slots=True)
class Order:
    """An order of trying.

    Attributes:
        tries: The candidates, first to last.
        propensity: Probability with which the first came to be the first.
        explored: Whether chance put it there.
    """

    tries: tuple[Candidate, ...]
    propensity: float
    explored: bool


def order_of(eligible: Sequence[Candidate], need: Need, *, explore: float, seed: int) -> Order:
    """Returns the order in which `eligible` are tried.

    First comes the cheapest of those that meet the need, and where none does, the one
    of the highest quality; at the same cost the one that is less busy, then the one that
    the catalogue lists first. With the probability `explore`, any that does not rest takes
    the first place instead. After the first come its own fallbacks, then the rest, those
    that meet the need before those that do not. Who rests is tried last.

    Args:
        eligible: The candidates that may answer, in the catalogue's order; at least one.
        need: The quality needed.
        explore: Probability of a draw, 0 to 1.
        seed: Decides the draw: equal seeds are drawn alike.
    """
    ranked = sorted(eligible, key=lambda each: _rank(each, need))
    awake = [each for each in ranked if not each.standing.resting]
    if explore == 0 or len(awake) < 2:  # noqa: PLR2004  (a draw among one is none)
        return Order(_with_fallbacks(ranked, ranked[0]), 1.0, explored=False)
    share = explore / len(awake)
    first = ranked[0]
    draw = seed / 2**64
    if draw < explore:
        first = awake[min(int(draw / share), len(awake) - 1)]
    best = first is ranked[0]
    propensity = share + (1 - explore if best else 0.0)
    return Order(_with_fallbacks(ranked, first), propensity, explored=not best)


def seed_of(request: Request) -> int:
    """Returns the seed of a request's draw: 64 bits of its own seed, else of its text."""
    if request.seed:
        material = request.seed.to_bytes(8, "big")
    else:
        material = "\0".join(each.content for each in request.messages).encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big")


def _rank(candidate: Candidate, need: Need) -> tuple[bool, bool, float, int, float]:
    meets = candidate.quality >= need.quality
    standing = candidate.standing
    # Sorting is stable: the catalogue's order breaks ties.
    return (
        bool(standing.resting),
        not meets,
        0.0 if meets else -candidate.quality,
        candidate.cost_micro_usd,
        (standing.in_flight + 1) * standing.latency_seconds,
    )


def _with_fallbacks(ranked: Sequence[Candidate], first: Candidate) -> tuple[Candidate, ...]:
    by_name = {candidate.model.name: candidate for candidate in ranked}
    named = [by_name[name] for name in first.model.fallbacks if name in by_name]
    # A fallback that rests gains nothing from being named: it waits with the others.
    awake = [candidate for candidate in named if not candidate.standing.resting]
    rest = [each for each in ranked if each is not first and each not in awake]
    return (first, *awake, *rest)
