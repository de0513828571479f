"""Between the messages of SearchService and its records."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Final

import numpy as np

from stepwire.api.vector.v1 import search_pb2, search_service_pb2
from stepwire.errors import field_invalid
from stepwire.payload import json_to_value
from vector_svc.engine.fields import check_ids, search_limit
from vector_svc.engine.records import IndexKind
from vector_svc.filters.codec import MAX_WORDS_CHARACTERS, filter_of, path_of
from vector_svc.filters.records import Path, Scalar
from vector_svc.points.codec import MAX_TEXT_CHARACTERS, write_point
from vector_svc.search.efforts import MAX_EF_SEARCH, MAX_PROBES, fewest
from vector_svc.search.records import (
    Diversity,
    Examples,
    Found,
    PayloadSelection,
    Plan,
    Recall,
    RecallQueries,
    Recency,
    Report,
    Rerank,
    Results,
    Search,
    WordQuery,
)
from vector_svc.search.reranking import MAX_RERANKED

MAX_REACH: Final = 10_000
MAX_EXAMPLES: Final = 100
MAX_NAMES: Final = 1_000
MAX_WEIGHT: Final = 1_000.0
LEAST_WEIGHT: Final = 0.001
MAX_K: Final = 10_000
DEFAULT_K: Final = 60
DEFAULT_STRENGTH: Final = 0.5
MAX_CANDIDATES: Final = 1_000
DEFAULT_RECENCY_WEIGHT: Final = 0.1
MAX_OVERSAMPLING: Final = 100.0
MAX_SEARCHES: Final = 100
MAX_GROUPS: Final = 100
EVERYTHING: Final = PayloadSelection()

_PLANS: Final[Mapping[Plan, "search_pb2.SearchPlan.ValueType"]] = {
    Plan.EXACT: search_pb2.SEARCH_PLAN_EXACT,
    Plan.FILTER_FIRST: search_pb2.SEARCH_PLAN_FILTER_FIRST,
    Plan.INDEX: search_pb2.SEARCH_PLAN_INDEX,
    Plan.ITERATIVE: search_pb2.SEARCH_PLAN_ITERATIVE,
    Plan.WORDS: search_pb2.SEARCH_PLAN_WORDS,
}

_QUERIES: Final[Mapping[RecallQueries, "search_pb2.RecallQueries.ValueType"]] = {
    RecallQueries.POINTS: search_pb2.RECALL_QUERIES_POINTS,
    RecallQueries.SEARCHES: search_pb2.RECALL_QUERIES_SEARCHES,
}


def search_of(
    message: search_service_pb2.SearchPointsRequest, *, filter_max_bytes: int, field: str = ""
) -> Search:
    """Read what is searched for.

    Args:
        message: The request.
        filter_max_bytes: Largest filter.
        field: Path of the request's fields: "" or ending in a dot.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    limit = search_limit(message.limit, field=f"{field}limit")
    if not 0 <= message.offset <= MAX_REACH - limit:
        raise field_invalid(f"{field}offset", f"must be from 0 to {MAX_REACH} with limit")
    has = message.HasField
    # Most have a vector and little else: what is not there is not looked into.
    if not message.vector or message.values or message.text or has("examples"):
        _check_target(message, field)
    filter_ = None
    if has("filter"):
        filter_ = filter_of(message.filter, field=f"{field}filter", max_bytes=filter_max_bytes)
    return Search(
        limit=limit,
        offset=message.offset,
        vector=message.vector or np.array(message.values, dtype="<f4").tobytes(),
        text=message.text,
        examples=_examples(message, field) if has("examples") else None,
        words=_words(message, field) if has("words") else None,
        filter=filter_,
        include_vectors=message.include_vectors,
        exact=message.exact,
        score_threshold=_threshold(message, field) if has("score_threshold") else None,
        diversity=_diversity(message, field) if has("diversity") else None,
        recency=_recency(message, field) if has("recency") else None,
        rerank=_rerank(message, field) if has("rerank") else None,
        payload=_payload(message.payload, f"{field}payload") if has("payload") else EVERYTHING,
        target_recall=_within(message.target_recall, f"{field}target_recall", 0, 1),
        ef_search=int(_within(message.ef_search, f"{field}ef_search", 0, MAX_EF_SEARCH)),
        probes=int(_within(message.probes, f"{field}probes", 0, MAX_PROBES)),
        oversampling=_oversampling(message.oversampling, f"{field}oversampling"),
        path=field,
    )


def timeout_of(message: search_service_pb2.StreamSearchPointsRequest) -> float | None:
    """Read how long a search of a stream may take, in seconds; None where it does not say."""
    if not message.HasField("timeout"):
        return None
    return message.timeout.seconds + message.timeout.nanos / 1e9


def searches_of(
    message: search_service_pb2.BatchSearchPointsRequest, *, filter_max_bytes: int
) -> list[Search]:
    """Read the searches of a batch.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    if not 1 <= len(message.searches) <= MAX_SEARCHES:
        raise field_invalid("searches", f"must have 1 to {MAX_SEARCHES} entries")
    searches = []
    for index, each in enumerate(message.searches):
        field = f"searches[{index}]."
        _check_same(each.collection, message.collection, f"{field}collection")
        searches.append(search_of(each, filter_max_bytes=filter_max_bytes, field=field))
    return searches


def groups_of(
    message: search_service_pb2.SearchGroupsRequest, *, filter_max_bytes: int
) -> tuple[Search, Path, int]:
    """Read a search for groups: the search, what makes the groups, and their size.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE.
    """
    _check_same(message.search.collection, message.collection, "search.collection")
    search = search_of(message.search, filter_max_bytes=filter_max_bytes, field="search.")
    if search.limit > MAX_GROUPS:
        raise field_invalid("search.limit", f"must be at most {MAX_GROUPS}")
    if search.offset:
        raise field_invalid("search.offset", "is not for groups")
    if search.diversity:
        raise field_invalid("search.diversity", "is not for groups")
    if search.rerank:
        raise field_invalid("search.rerank", "is not for groups")
    if not search.payload.everything:
        raise field_invalid("search.payload", "is not for groups")
    size = int(_within(message.group_size, "group_size", 0, MAX_GROUPS)) or 1
    return search, path_of(message.group_by, field="group_by"), size


def least_score(threshold: float) -> float:
    """Return the least score that callers see as one or above it: they see float32 values."""
    below = np.nextafter(np.float32(threshold), np.float32(-np.inf))
    return (threshold + float(below)) / 2


def write_results(
    results: Results,
    selection: PayloadSelection,
    into: search_service_pb2.SearchPointsResponse,
) -> None:
    """Fill in what a search has found, with what is wanted of payloads."""
    write_found(results.found, into, selection)
    write_report(results.report, into.report)


def write_found(
    found: Sequence[Found],
    into: search_service_pb2.SearchPointsResponse | search_pb2.PointGroup,
    selection: PayloadSelection = EVERYTHING,
) -> None:
    """Fill in the points that were found."""
    select = None if selection.everything else selection.of
    points = into.points
    for each in found:
        scored = points.add()
        scored.score = each.score
        write_point(each, scored.point, select)


def write_report(report: Report, into: search_pb2.SearchReport) -> None:
    """Fill in how a search went."""
    into.plan = _PLANS[report.plan]
    into.points_compared = report.points_compared
    into.may_be_short = report.may_be_short
    into.recall_estimate = report.recall
    into.ef_search = report.ef_search
    into.probes = report.probes
    into.walk_given_up = report.walk_given_up
    into.points_reranked = report.reranked


def write_group(value: Scalar, found: Sequence[Found], into: search_pb2.PointGroup) -> None:
    """Fill in a group."""
    json_to_value(value, into.value)
    write_found(found, into)


def write_recall(recall: Recall, into: search_service_pb2.MeasureRecallResponse) -> None:
    """Fill in what was measured, and what follows for searches for the fewest points."""
    into.unreachable_share = recall.unreachable
    into.samples = recall.samples
    if recall.index is None or not recall.figures:
        return
    into.queries = _QUERIES[recall.queries]
    into.limit = recall.figures[0].nearest
    name = "probes" if recall.index.kind is IndexKind.IVFFLAT else "ef_search"
    chosen = fewest([each for each in recall.figures if each.nearest == into.limit], recall.target)
    setattr(into, name, chosen.effort if chosen else 0)
    for figure in recall.figures:
        written = into.figures.add(
            recall=figure.recall, milliseconds=figure.milliseconds, limit=figure.nearest
        )
        setattr(written, name, figure.effort)
        written.measure_time.FromDatetime(recall.measured_at.astimezone(UTC))


def _check_target(message: search_service_pb2.SearchPointsRequest, field: str) -> None:
    given = [
        name
        for name, value in (
            ("vector", message.vector),
            ("values", message.values),
            ("text", message.text),
            ("examples", message.HasField("examples")),
        )
        if value
    ]
    if len(given) > 1:
        raise field_invalid(f"{field}{given[1]}", f"cannot be given together with {given[0]}")
    if not given and not message.words.words:
        raise field_invalid(f"{field}vector", "is required, or values, text, examples or words")
    if len(message.text) > MAX_TEXT_CHARACTERS:
        raise field_invalid(f"{field}text", f"must be at most {MAX_TEXT_CHARACTERS} characters")


def _examples(message: search_service_pb2.SearchPointsRequest, field: str) -> Examples:
    positive, negative = message.examples.positive_ids, message.examples.negative_ids
    path = f"{field}examples"
    check_ids(positive, field=f"{path}.positive_ids")
    if len(positive) > MAX_EXAMPLES:
        raise field_invalid(f"{path}.positive_ids", f"must have at most {MAX_EXAMPLES} entries")
    if len(negative) > MAX_EXAMPLES:
        raise field_invalid(f"{path}.negative_ids", f"must have at most {MAX_EXAMPLES} entries")
    if negative:
        check_ids(negative, field=f"{path}.negative_ids")
    return Examples(tuple(positive), tuple(negative))


def _words(message: search_service_pb2.SearchPointsRequest, field: str) -> WordQuery:
    path = f"{field}words"
    words = message.words.words or message.text
    if not 1 <= len(words) <= MAX_WORDS_CHARACTERS or "\0" in words:
        raise field_invalid(
            f"{path}.words", f"must be 1 to {MAX_WORDS_CHARACTERS} characters, none U+0000"
        )
    return WordQuery(
        words=words,
        weight=_weight(message.words.weight, f"{path}.weight"),
        vector_weight=_weight(message.words.vector_weight, f"{path}.vector_weight"),
        k=int(_within(message.words.k, f"{path}.k", 0, MAX_K)) or DEFAULT_K,
    )


def _threshold(message: search_service_pb2.SearchPointsRequest, field: str) -> float:
    if math.isnan(message.score_threshold):
        raise field_invalid(f"{field}score_threshold", "must be a number")
    return least_score(message.score_threshold)


def _diversity(message: search_service_pb2.SearchPointsRequest, field: str) -> Diversity:
    path = f"{field}diversity"
    strength = _within(message.diversity.strength, f"{path}.strength", 0, 1)
    most = _within(message.diversity.candidates, f"{path}.candidates", 0, MAX_CANDIDATES)
    return Diversity(strength or DEFAULT_STRENGTH, int(most))


def _recency(message: search_service_pb2.SearchPointsRequest, field: str) -> Recency:
    path = f"{field}recency"
    try:
        half_life = message.recency.half_life.ToTimedelta()
    except (OverflowError, ValueError):
        half_life = timedelta()
    if half_life < timedelta(milliseconds=1):
        raise field_invalid(f"{path}.half_life", "must be a millisecond or more")
    weight = _within(message.recency.weight, f"{path}.weight", 0, MAX_WEIGHT)
    at = message.recency.path
    return Recency(
        half_life,
        weight or DEFAULT_RECENCY_WEIGHT,
        path_of(at, field=f"{path}.path") if at else (),
    )


def _rerank(message: search_service_pb2.SearchPointsRequest, field: str) -> Rerank:
    path, asked = f"{field}rerank", message.rerank
    query = asked.query or message.text or message.words.words
    if not 1 <= len(query) <= MAX_TEXT_CHARACTERS:
        limit = f"is required, at most {MAX_TEXT_CHARACTERS} characters, without text or words"
        raise field_invalid(f"{path}.query", limit)
    if message.offset + search_limit(message.limit) > MAX_RERANKED:
        raise field_invalid(path, f"is for at most {MAX_RERANKED} points, offset and limit")
    candidates = _within(asked.candidates, f"{path}.candidates", 0, MAX_RERANKED)
    return Rerank(
        path=path_of(asked.path, field=f"{path}.path") if asked.path else (),
        query=query,
        model=asked.model,
        candidates=int(candidates),
    )


def _payload(message: search_pb2.PayloadSelection, field: str) -> PayloadSelection:
    for name, fields in (("include", message.include), ("exclude", message.exclude)):
        if len(fields) > MAX_NAMES:
            raise field_invalid(f"{field}.{name}", f"must have at most {MAX_NAMES} entries")
    return PayloadSelection(
        frozenset(message.include), frozenset(message.exclude), none=message.none
    )


def _oversampling(value: float, field: str) -> float:
    if value and not 1 <= value <= MAX_OVERSAMPLING:
        raise field_invalid(field, f"must be from 1 to {MAX_OVERSAMPLING:g}, or 0")
    return value


def _weight(value: float, field: str) -> float:
    if value and not LEAST_WEIGHT <= value <= MAX_WEIGHT:
        raise field_invalid(field, f"must be from {LEAST_WEIGHT} to {MAX_WEIGHT:g}, or 0 for 1")
    return value or 1.0


def _within(value: float, field: str, least: float, most: float) -> float:
    if not least <= value <= most:
        raise field_invalid(field, f"must be from {least} to {most:g}")
    return value


def _check_same(name: str, collection: str, field: str) -> None:
    if name not in ("", collection):
        raise field_invalid(field, "must be empty or the collection of the request")
