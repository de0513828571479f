from datetime import timedelta

from google.protobuf.json_format import MessageToDict

from stepwire.sdk.graph import (
    embed,
    graph,
    http,
    model,
    python,
    retry_policy,
    search,
    transform,
    upsert,
)


def test_every_kind_of_step_is_written_as_its_proto() -> None:
    built = graph(
        python("split", function="text.split", queue="llm"),
        transform("sum", expression="value + 1", depends_on=["split"], input="steps.split.n"),
        embed("embed", model="m", depends_on=["split"], for_each="steps.split.batches"),
        upsert("upsert", collection="c", depends_on=["embed"]),
        search("search", collection="c", limit=3),
        model("answer", model="big", max_output_tokens=9, temperature=0.0),
        http("call", url="https://example.org", method="GET", headers={"Accept": "text/plain"}),
    )
    assert MessageToDict(built, preserving_proto_field_name=True)["steps"] == [
        {"name": "split", "python": {"function": "text.split"}, "queue": "llm"},
        {
            "name": "sum",
            "transform": {"expression": "value + 1"},
            "depends_on": ["split"],
            "input": "steps.split.n",
        },
        {
            "name": "embed",
            "embed": {"model": "m"},
            "depends_on": ["split"],
            "for_each": "steps.split.batches",
        },
        {"name": "upsert", "upsert": {"collection": "c"}, "depends_on": ["embed"]},
        {"name": "search", "search": {"collection": "c", "limit": 3}},
        {"name": "answer", "model": {"model": "big", "max_output_tokens": 9, "temperature": 0.0}},
        {
            "name": "call",
            "http": {
                "method": "GET",
                "url": "https://example.org",
                "headers": {"Accept": "text/plain"},
            },
        },
    ]


def test_retry_and_timeout_are_spans_of_time() -> None:
    step = python(
        "a",
        function="f",
        timeout=timedelta(seconds=90),
        retry=retry_policy(max_attempts=5, initial_backoff=timedelta(milliseconds=20)),
    )
    assert step.timeout.ToTimedelta() == timedelta(seconds=90)
    assert step.retry.max_attempts == 5
    assert step.retry.initial_backoff.ToTimedelta() == timedelta(milliseconds=20)
    assert not step.retry.HasField("max_backoff")


def test_what_is_left_out_is_unset() -> None:
    step = model("answer")
    assert not step.HasField("retry")
    assert not step.HasField("timeout")
    assert not step.model.HasField("temperature")
