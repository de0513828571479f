"""`stepwire models`: the router's catalogue, and the models of the model service."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from stepwire.api.model.v1.text_model_pb2 import (
    ModelVersionState,
    TextModel,
    TextModelVersion,
    TextVerb,
)
from stepwire.api.router.v1.catalogue_pb2 import CatalogueModel
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json, to_json

_MICRO = 1_000_000


def models(
    *,
    hosted: Annotated[
        bool,
        typer.Option(
            "--hosted", help="Those of the model service instead: versions, states, devices."
        ),
    ] = False,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the text models that the router chooses from, or that are served here."""
    connection = connect(gateway, home)
    run(_hosted(connection, output) if hosted else _models(connection, output))


async def _models(connection: Connection, output: Output) -> None:
    async with connection as client:
        catalogue = await client.models.catalogue()
    if output is Output.JSON:
        print_json([to_json(model) for model in catalogue])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("MODEL", "PROVIDER", "CONTEXT", "QUALITY", "CAPABILITIES", "USD/M IN", "OUT"):
        table.add_column(column)
    for model in catalogue:
        table.add_row(
            model.name,
            model.provider,
            f"{model.context_window:,}",
            f"{model.quality:g}",
            ", ".join(model.capabilities),
            *_prices(model),
        )
    console().print(table)


async def _hosted(connection: Connection, output: Output) -> None:
    async with connection as client:
        found = await client.models.hosted()
    if output is Output.JSON:
        print_json([to_json(model) for model in found])
        return
    print_hosted(found)


def print_hosted(models: Sequence[TextModel]) -> None:
    """Prints a line for each version of each model."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("MODEL", "VERSION", "STATE", "DEVICE", "VECTOR", "TOKENS", "VERBS", "REASON"):
        table.add_column(column)
    for model in models:
        for version in model.versions:
            table.add_row(
                f"{model.name} (default)" if model.is_default else model.name,
                version.version,
                ModelVersionState.Name(version.state).removeprefix("MODEL_VERSION_STATE_"),
                *_served(model, version),
                ", ".join(TextVerb.Name(v).removeprefix("TEXT_VERB_").lower() for v in model.verbs),
                version.reason,
            )
    console().print(table)


def _served(model: TextModel, version: TextModelVersion) -> tuple[str, str, str]:
    """Where a version runs, its vectors' length, its longest input; only the one used tells."""
    if version.version != model.version or not model.ready:
        return "", "", ""
    device = f"{model.device} (fallback)" if model.fallback else model.device
    return device, str(model.dimension or ""), f"{model.max_tokens:,}"


def _prices(model: CatalogueModel) -> tuple[str, str]:
    return (
        f"{model.input_price_micro_usd / _MICRO:g}",
        f"{model.output_price_micro_usd / _MICRO:g}",
    )
