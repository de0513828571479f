"""The demo's own step functions: each adds its execution to the ledger, then works."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stepwire.demo.ledger import Execution, LedgerError, add_execution
from stepwire.sdk import library
from stepwire.sdk.functions import PermanentError, StepContext, step


class LedgeredSplit(BaseModel):
    """What `demo.split` takes."""

    model_config = ConfigDict(extra="forbid")

    document: dict[str, Any] = Field(description="The input of `text.split`.")
    ledger: str = Field(description="Path of the ledger.")


class LedgeredNote(BaseModel):
    """What `demo.note` takes."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(description="The document.")
    passages: int = Field(description="Passages that it was cut into.")
    written: list[int] = Field(description="Points that were written, by batch.")
    ledger: str = Field(description="Path of the ledger.")


class LedgeredCite(BaseModel):
    """What `demo.cite` takes."""

    model_config = ConfigDict(extra="forbid")

    answer: dict[str, Any] = Field(description="The output of the model step.")
    hits: list[dict[str, Any]] = Field(description="The output of the search step.")
    ledger: str = Field(description="Path of the ledger.")


@step("demo.split")
def split(value: Any, context: StepContext) -> dict[str, Any]:
    """Does what `text.split` does, and adds to the ledger; takes `LedgeredSplit`."""
    given = library.parse(LedgeredSplit, value)
    _record(given.ledger, context)
    return library.split(given.document)


@step("demo.note")
def note(value: Any, context: StepContext) -> dict[str, Any]:
    """Says how many passages of a document were written; takes `LedgeredNote`.

    Raises:
        PermanentError: Fewer or more points were written than there are passages.
    """
    given = library.parse(LedgeredNote, value)
    _record(given.ledger, context)
    if sum(given.written) != given.passages:
        raise PermanentError(
            f"{given.source} has {given.passages} passages, but {sum(given.written)} were written"
        )
    return {"source": given.source, "passages": given.passages}


@step("demo.cite")
def cite(value: Any, context: StepContext) -> dict[str, Any]:
    """Does what `text.cite` does, and adds to the ledger; takes `LedgeredCite`."""
    given = library.parse(LedgeredCite, value)
    _record(given.ledger, context)
    return library.cite({"answer": given.answer, "hits": given.hits})


def _record(ledger: str, context: StepContext) -> None:
    execution = Execution(task_id=context.task_id, step_id=context.step_id, attempt=context.attempt)
    try:
        add_execution(Path(ledger), execution)
    except LedgerError as error:
        raise PermanentError(str(error)) from None
