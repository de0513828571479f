"""The two graphs: a document into a collection, and a question answered from it."""

from typing import Final

from stepwire.api.executor.v1.graph_pb2 import Graph, Step
from stepwire.sdk.graph import embed, graph, model, python, search, transform, upsert

DIMENSION: Final = 384
"""Length of the vectors of the default embedding model."""

DEFAULT_HITS: Final = 4

# What is embedded begins with the document's title, since a passage often does not say
# what it is about.
_TEXTS = r'item.map(p, input.document.title + "\n" + p.text)'

_POINTS = """
item.map(p, {
  "id": p.id,
  "vector": steps.embed[index].vectors[p.slot],
  "payload": {
    "source": input.document.id,
    "title": input.document.title,
    "position": p.position,
    "start": p.start,
    "text": p.text
  }
})
""".strip()

_PROMPT = """
{
  "prompt": input.question,
  "documents": steps.search.map(hit, {
    "id": hit.id, "title": hit.payload.title, "text": hit.payload.text
  })
}
""".strip()

_SUMMARY = '{"source": input.document.id, "passages": steps.split.passages}'


def document_graph(
    collection: str, *, split: Step | None = None, note: Step | None = None
) -> Graph:
    """Returns the graph that cuts a document into passages and writes them as points.

    The task's input is `{"document": …}` with the fields of `SplitInput`; its output is
    `{"source": the document's id, "passages": how many points were written}`, or what `note`
    makes of it. Points are named `DOCUMENT#position`.

    Args:
        collection: The collection to write to.
        split: A step named `split` to use instead of one that calls `text.split`.
        note: A step named `note`, behind `split` and `upsert`, to end with.
    """
    return graph(
        split or python("split", function="text.split", input="input.document"),
        embed("embed", depends_on=["split"], for_each="steps.split.batches", input=_TEXTS),
        upsert(
            "upsert",
            collection=collection,
            depends_on=["split", "embed"],
            for_each="steps.split.batches",
            input=_POINTS,
        ),
        note or transform("note", depends_on=["split", "upsert"], expression=_SUMMARY),
    )


def question_graph(
    collection: str, *, hits: int = DEFAULT_HITS, model_name: str = "", cite: Step | None = None
) -> Graph:
    """Returns the graph that answers a question from a collection and cites its sources.

    The task's input is `{"question": text}`; its output is that of `text.cite`.

    Args:
        collection: The collection to search; its points are those of `document_graph`.
        hits: Number of passages to answer from.
        model_name: The catalogue model to ask; empty lets the router choose.
        cite: A step named `cite`, behind `search` and `answer`, to use instead of one that
            calls `text.cite`.
    """
    return graph(
        embed("embed", input="input.question"),
        search(
            "search",
            collection=collection,
            limit=hits,
            depends_on=["embed"],
            input="steps.embed.vectors[0]",
        ),
        model("answer", model=model_name, depends_on=["search"], input=_PROMPT),
        cite
        or python(
            "cite",
            function="text.cite",
            depends_on=["search", "answer"],
            input='{"answer": steps.answer, "hits": steps.search}',
        ),
    )
