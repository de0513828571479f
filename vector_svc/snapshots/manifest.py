"""The manifest of a snapshot: a collection's configuration as JSON. Pure."""

from datetime import timedelta
from typing import Any

from stepwire.errors import StepwireError
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
from vector_svc.snapshots.format import invalid


def manifest_of(config: CollectionConfig) -> dict[str, Any]:
    """Return what a snapshot says of its collection."""
    index = config.index
    ttl = config.default_ttl
    return {
        "name": config.name,
        "dimension": config.dimension,
        "metric": config.metric.value,
        "element": config.element.value,
        "model": config.model,
        "model_version": config.model_version,
        "index": {
            "kind": index.kind.value,
            "m": index.m,
            "ef_construction": index.ef_construction,
            "lists": index.lists,
            "quantization": index.quantization.value,
            "min_points": index.min_points,
        },
        "fields": {name: type_.name for name, type_ in config.fields.items()},
        "text": [config.text.field, config.text.language] if config.text else None,
        "default_ttl_seconds": ttl.total_seconds() if ttl else None,
        "query_samples": config.query_samples,
    }


def config_of(manifest: dict[str, Any], name: str) -> CollectionConfig:
    """Read the configuration of a collection that is to be made.

    Args:
        manifest: As `manifest_of` made it.
        name: Of the collection; "" for that of the manifest.

    Raises:
        StepwireError: SNAPSHOT_INVALID; FIELD_INVALID, if the name is not one.
    """
    try:
        config = _read(manifest, name)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise invalid("manifest", "its manifest is not understood") from error
    try:
        check_config(config)
    except StepwireError as error:
        if name:
            raise
        raise invalid("manifest", f"its manifest is refused: {error}") from error
    return config


def _read(manifest: dict[str, Any], name: str) -> CollectionConfig:
    index, ttl = manifest["index"], manifest["default_ttl_seconds"]
    return CollectionConfig(
        name=name or str(manifest["name"]),
        dimension=int(manifest["dimension"]),
        metric=Metric(manifest["metric"]),
        element=Element(manifest["element"]),
        model=str(manifest["model"]),
        model_version=str(manifest["model_version"]),
        index=IndexOptions(
            kind=IndexKind(index["kind"]),
            m=int(index["m"]),
            ef_construction=int(index["ef_construction"]),
            lists=int(index["lists"]),
            quantization=Quantization(index["quantization"]),
            min_points=int(index["min_points"]),
        ),
        fields={str(key): FieldType[value] for key, value in manifest["fields"].items()},
        text=TextOptions(*map(str, manifest["text"])) if manifest["text"] else None,
        default_ttl=None if ttl is None else timedelta(seconds=ttl),
        query_samples=int(manifest["query_samples"]),
    )
