"""Puts the commands together."""

import typer

from stepwire.cli import stack
from stepwire.cli.ask import ask
from stepwire.cli.collections import collections
from stepwire.cli.demo import demo
from stepwire.cli.ingest import ingest
from stepwire.cli.keys import keys
from stepwire.cli.models import models
from stepwire.cli.queues import queues
from stepwire.cli.schedules import schedules
from stepwire.cli.search import search
from stepwire.cli.submit import submit
from stepwire.cli.subscriptions import subscriptions
from stepwire.cli.tasks import tasks
from stepwire.cli.trace import trace
from stepwire.cli.watch import watch
from stepwire.cli.workers import workers
from stepwire.cli.workflows import workflows

app = typer.Typer(
    name="stepwire",
    help="Run step-wise AI-agent tasks durably.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

_STACK = "The local stack"
_TASKS = "Tasks"
_OPERATIONS = "Operations"
_DOCUMENTS = "Documents and models"

app.command(rich_help_panel=_STACK)(stack.up)
app.command(rich_help_panel=_STACK)(stack.down)
app.command(rich_help_panel=_STACK)(stack.status)
app.command(rich_help_panel=_STACK)(stack.doctor)
app.command(rich_help_panel=_STACK)(stack.logs)
app.command(rich_help_panel=_STACK)(demo)
app.command(rich_help_panel=_TASKS)(submit)
app.command(rich_help_panel=_TASKS)(watch)
app.command(rich_help_panel=_TASKS)(trace)
app.add_typer(tasks, name="tasks", rich_help_panel=_TASKS)
app.add_typer(workflows, name="workflows", rich_help_panel=_TASKS)
app.add_typer(schedules, name="schedules", rich_help_panel=_TASKS)
app.add_typer(subscriptions, name="subscriptions", rich_help_panel=_TASKS)
app.add_typer(queues, name="queues", rich_help_panel=_OPERATIONS)
app.add_typer(workers, name="workers", rich_help_panel=_OPERATIONS)
app.add_typer(keys, name="keys", rich_help_panel=_OPERATIONS)
app.command(rich_help_panel=_DOCUMENTS)(ingest)
app.command(rich_help_panel=_DOCUMENTS)(ask)
app.command(rich_help_panel=_DOCUMENTS)(search)
app.command(rich_help_panel=_DOCUMENTS)(models)
app.add_typer(collections, name="collections", rich_help_panel=_DOCUMENTS)


def main() -> None:
    """Runs the command that the command line names."""
    app()
