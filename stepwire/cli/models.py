"""`stepwire models`: the catalogue."""

from rich.table import Table

from stepwire.api.router.v1.catalogue_pb2 import CatalogueModel
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, print_json, to_json

_MICRO = 1_000_000


def models(
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the text models that the router chooses from."""
    run(_models(connect(gateway, home), output))


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


def _prices(model: CatalogueModel) -> tuple[str, str]:
    return (
        f"{model.input_price_micro_usd / _MICRO:g}",
        f"{model.output_price_micro_usd / _MICRO:g}",
    )
