"""What a collection may be made of."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stepwire.errors import Reason, StepwireError
from vector_svc.collections.rules import check_config
from vector_svc.engine.records import (
    CollectionConfig,
    Element,
    FieldType,
    IndexKind,
    IndexOptions,
    Metric,
    Quantization,
    TextOptions,
)

PLAIN = CollectionConfig("a", 8, Metric.COSINE)
BITS = CollectionConfig("a", 8, Metric.HAMMING, Element.BINARY)
FLAT = IndexOptions(kind=IndexKind.NONE)
LISTS = IndexOptions(kind=IndexKind.IVFFLAT)
HALF = IndexOptions(quantization=Quantization.HALF)
SIGNS = IndexOptions(quantization=Quantization.BINARY)


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        BITS,
        replace(PLAIN, dimension=1),
        replace(PLAIN, dimension=2_000),
        replace(PLAIN, dimension=16_000, index=FLAT),
        replace(PLAIN, dimension=4_000, element=Element.FLOAT16),
        replace(PLAIN, dimension=4_000, index=HALF),
        replace(PLAIN, dimension=16_000, index=SIGNS),
        replace(BITS, dimension=64_000, metric=Metric.JACCARD),
        replace(PLAIN, metric=Metric.DOT, index=LISTS),
        replace(PLAIN, fields={f"f{n}": FieldType.INT for n in range(16)}),
        replace(PLAIN, default_ttl=timedelta(seconds=1)),
        replace(PLAIN, text=TextOptions("text", "english")),
    ],
)
def test_good_configurations_pass(config: CollectionConfig) -> None:
    check_config(config)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "A"}, "name"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": -1}, "dimension"),
        ({"dimension": 2_001}, "dimension"),
        ({"dimension": 16_001, "index": FLAT}, "dimension"),
        ({"dimension": 4_001, "index": HALF}, "dimension"),
        ({"element": Element.BINARY}, "metric"),
        ({"element": Element.BINARY, "metric": Metric.JACCARD, "dimension": 12}, "dimension"),
        ({"metric": Metric.HAMMING}, "metric"),
        ({"metric": Metric.MANHATTAN, "index": LISTS}, "index.kind"),
        ({"metric": Metric.MANHATTAN, "index": SIGNS}, "index.quantization"),
        ({"element": Element.FLOAT16, "index": HALF}, "index.quantization"),
        ({"index": IndexOptions(m=1)}, "index.m"),
        ({"index": IndexOptions(m=40, ef_construction=64)}, "index.ef_construction"),
        ({"index": IndexOptions(ef_construction=1_001)}, "index.ef_construction"),
        ({"index": IndexOptions(lists=32_769)}, "index.lists"),
        ({"index": IndexOptions(min_points=-1)}, "index.min_points"),
        ({"model": "m" * 129}, "model"),
        ({"fields": {"a b": FieldType.INT}}, "fields[0].name"),
        ({"fields": {"x'; DROP": FieldType.INT}}, "fields[0].name"),
        ({"fields": {f"f{n}": FieldType.INT for n in range(17)}}, "fields"),
        ({"default_ttl": timedelta(milliseconds=1)}, "default_ttl"),
        ({"default_ttl": timedelta(days=-1)}, "default_ttl"),
        ({"query_samples": -1}, "query_samples"),
        ({"query_samples": 1_001}, "query_samples"),
        ({"text": TextOptions("text", "En glish")}, "text.language"),
    ],
)
def test_bad_configurations_are_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(StepwireError) as caught:
        check_config(replace(PLAIN, **change))
    assert caught.value.reason is Reason.FIELD_INVALID
    assert [fault.field for fault in caught.value.faults] == [f"collection.{field}"]
