"""The demo's tasks: the graphs of `stepwire.ingest`, with the ledger in their Python steps."""

from pathlib import Path
from typing import Final

from stepwire.demo.corpus import Topic
from stepwire.demo.questions import Question
from stepwire.ingest.graphs import document_graph, question_graph
from stepwire.sdk.graph import python
from stepwire.sdk.requests import NewTask

LEDGERED_STEPS: Final = frozenset({"split", "note", "cite"})
"""The steps that add to the ledger."""

_NOTE = """
{
  "source": input.document.id,
  "passages": steps.split.passages,
  "written": steps.upsert.map(batch, batch.upserted),
  "ledger": input.ledger
}
""".strip()

_CITE = '{"answer": steps.answer, "hits": steps.search, "ledger": input.ledger}'


def topic_task(topic: Topic, *, collection: str, ledger: Path, run: str) -> NewTask:
    """Returns the task that reads a topic into the collection."""
    graph = document_graph(
        collection,
        split=python("split", function="demo.split"),
        note=python("note", function="demo.note", depends_on=["split", "upsert"], input=_NOTE),
    )
    document = {"id": topic.name, "title": topic.title, "text": topic.text}
    return NewTask(
        graph,
        {"document": document, "ledger": str(ledger)},
        request_id=f"demo/{run}/{topic.name}",
        labels={"demo": run, "topic": topic.name},
    )


def question_task(
    question: Question, *, number: int, collection: str, ledger: Path, run: str
) -> NewTask:
    """Returns the task that answers a question from the collection."""
    graph = question_graph(
        collection,
        cite=python("cite", function="demo.cite", depends_on=["search", "answer"], input=_CITE),
    )
    return NewTask(
        graph,
        {"question": question.question, "ledger": str(ledger)},
        request_id=f"demo/{run}/question-{number}",
        labels={"demo": run, "question": str(number)},
    )
