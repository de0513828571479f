"""`stepwire keys`: says who may call the gateway."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from stepwire.api.gateway.v1.key_service_pb2 import Key, KeyScope
from stepwire.api_keys import key_text, new_key_id, new_secret, read_key
from stepwire.cli.connect import Connection, connect
from stepwire.cli.exits import run
from stepwire.cli.options import GatewayOption, HomeOption, Output, OutputOption
from stepwire.cli.output import console, moment, print_json, to_json
from stepwire.sdk.keys import RevealedKey

keys = typer.Typer(
    help="Make and end the keys with which clients call the gateway.", no_args_is_help=True
)

_SCOPE_PREFIX = "KEY_SCOPE_"


class Scope(StrEnum):
    """What calls a key allows."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key.")]


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call the key.")],
    *,
    tenant: Annotated[
        str, typer.Option(help="Whose data it sees. By default that of your own key.")
    ] = "",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What calls it allows; may be repeated. By default read and write.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="How long it is good. By default until it is revoked."),
    ] = None,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a key; its text is shown only now."""
    scopes = [KeyScope.Value(_SCOPE_PREFIX + each.name) for each in scope or []]
    lifetime = None if days is None else timedelta(days=days)
    run(
        _create(
            connect(gateway, home),
            name,
            tenant=tenant,
            scopes=scopes,
            lifetime=lifetime,
            output=output,
        )
    )


@keys.command("list")
def list_keys(
    *,
    tenant: Annotated[str, typer.Option(help="Only those of this tenant.")] = "",
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List keys, oldest first, of all tenants."""
    run(_list(connect(gateway, home), tenant, output))


@keys.command("revoke")
def revoke(
    key_id: KeyArgument,
    *,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """End a key for good, within seconds; streams that are open go on."""
    run(_revoke(connect(gateway, home), key_id, output))


@keys.command("rotate")
def rotate(
    key_id: KeyArgument,
    *,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=168, help="For how long the old secret is good as well.")
    ] = 24,
    gateway: GatewayOption = None,
    home: HomeOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give a key another secret; its new text is shown only now."""
    run(_rotate(connect(gateway, home), key_id, timedelta(hours=overlap_hours), output))


@keys.command("generate")
def generate(*, output: OutputOption = Output.TEXT) -> None:
    """Make up a key for a new installation, and call nobody.

    The companion adds it when it starts with STEPWIRE_COMPANION_FIRST_KEY set to the key, or to
    its reference, which is no secret.
    """
    text = key_text(new_key_id(), new_secret())
    kept = read_key(text)
    assert kept is not None
    if output is Output.JSON:
        print_json({"key_text": text, "reference": kept.reference})
        return
    typer.echo(f"key        {text}\nreference  {kept.reference}")


async def _create(
    connection: Connection,
    name: str,
    *,
    tenant: str,
    scopes: Sequence["KeyScope.ValueType"],
    lifetime: timedelta | None,
    output: Output,
) -> None:
    async with connection as client:
        made = await client.keys.create(name, tenant_id=tenant, scopes=scopes, lifetime=lifetime)
    _show(made, output)


async def _list(connection: Connection, tenant: str, output: Output) -> None:
    async with connection as client:
        found = [key async for key in client.keys.find(tenant_id=tenant)]
    if output is Output.JSON:
        print_json([to_json(key) for key in found])
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("KEY", "NAME", "TENANT", "SCOPES", "MADE", "LAST USED", "STATE"):
        table.add_column(column, no_wrap=column == "KEY")
    for key in found:
        used = moment(key.last_use_time) if key.HasField("last_use_time") else ""
        made = moment(key.create_time)
        table.add_row(key.key_id, key.name, key.tenant_id, _scopes(key), made, used, _state(key))
    console().print(table)


async def _revoke(connection: Connection, key_id: str, output: Output) -> None:
    async with connection as client:
        key = await client.keys.revoke(key_id)
    _show(RevealedKey(key), output)


async def _rotate(connection: Connection, key_id: str, overlap: timedelta, output: Output) -> None:
    async with connection as client:
        rotated = await client.keys.rotate(key_id, overlap=overlap)
    _show(rotated, output)


def _show(revealed: RevealedKey, output: Output) -> None:
    key = revealed.key
    if output is Output.JSON:
        told = {"key_text": revealed.text} if revealed.text else {}
        print_json({"key": to_json(key)} | told)
        return
    screen = console()
    screen.print(f"{key.key_id} {key.name} of {key.tenant_id}: {_scopes(key)}, {_state(key)}")
    if key.HasField("previous_secret_end_time"):
        end = moment(key.previous_secret_end_time)
        screen.print(f"the secret before is good until {end}")
    if revealed.text:
        screen.print(f"key, shown only now: {revealed.text}", soft_wrap=True)


def _scopes(key: Key) -> str:
    return " ".join(KeyScope.Name(each).removeprefix(_SCOPE_PREFIX).lower() for each in key.scopes)


def _state(key: Key) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {moment(key.revoke_time)}"
    if not key.HasField("expire_time"):
        return "good"
    over = key.expire_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    return f"{'expired' if over else 'good until'} {moment(key.expire_time)}"
