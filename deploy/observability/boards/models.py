"""The model server: how long calls wait, how full batches are, where models run."""

from typing import Final

from deploy.observability.boards.board import Board, Operation, Panel, Query, Row, Variable
from deploy.observability.boards.expressions import mean, quantile, quantiles, total

_MODEL: Final = 'stepwire_model=~"$model"'
TOKENS: Final = "stepwire_model_batch_tokens"
PADDED: Final = "stepwire_model_batch_padded_tokens_total"
_SERVICE: Final = 'rpc_method=~"stepwire.api.model.*|inference.*"'

CALLS: Final = Row(
    "Calls",
    (
        Panel(
            title="Calls by method",
            text="What is asked for.",
            queries=(
                Query(
                    total("rpc_server_call_duration_seconds_count", _SERVICE, by="rpc_method"),
                    "{{rpc_method}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time of calls",
            text="With the wait for a batch. Long with a short run: see the wait.",
            queries=tuple(
                Query(*each) for each in quantiles("rpc_server_call_duration_seconds", _SERVICE)
            ),
            unit="s",
        ),
        Panel(
            title="Models that run elsewhere than they should",
            text="1: on the CPU although a GPU was asked for; health says why. "
            "docs/runbooks/model-on-cpu.md",
            queries=(
                Query(
                    "max by (stepwire_model, stepwire_model_version) "
                    f"(stepwire_model_fallbacks{{{_MODEL}}})",
                    "{{stepwire_model}} {{stepwire_model_version}}",
                ),
                Query(
                    f"max by (stepwire_model) (stepwire_model_loads_hanging{{{_MODEL}}})",
                    "loads that hang: {{stepwire_model}}",
                ),
            ),
        ),
    ),
)

BATCHES: Final = Row(
    "Batches",
    (
        Panel(
            title="Wait for a batch, p95",
            text="Longest of each batch. Above a second for long: another instance, or a GPU. "
            "docs/runbooks/model-queue-long.md",
            queries=(
                Query(
                    quantile(
                        0.95, "stepwire_model_queue_duration_seconds", _MODEL, by="stepwire_model"
                    ),
                    "{{stepwire_model}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Run of a batch, p95",
            text="On the device.",
            queries=(
                Query(
                    quantile(
                        0.95,
                        "stepwire_model_batch_duration_seconds",
                        _MODEL,
                        by="stepwire_model, stepwire_model_device",
                    ),
                    "{{stepwire_model}} {{stepwire_model_device}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Fill of batches",
            text="Mean share of the largest. Near 1: it is at its end; near 0: it has time.",
            queries=(
                Query(
                    mean("stepwire_model_batch_fill", _MODEL, by="stepwire_model"),
                    "{{stepwire_model}}",
                ),
            ),
            unit="percentunit",
            most=1,
        ),
        Panel(
            title="Items and tokens per second",
            text="What the device gets done.",
            queries=(
                Query(
                    total("stepwire_model_batch_items_sum", _MODEL, by="stepwire_model"),
                    "items {{stepwire_model}}",
                ),
                Query(
                    total("stepwire_model_batch_tokens_sum", _MODEL, by="stepwire_model"),
                    "tokens {{stepwire_model}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Tokens that are padding",
            text="Share of what runs. Much: texts of very different lengths share batches.",
            queries=(
                Query(
                    f"1 - {total(f'{TOKENS}_sum', _MODEL, by='stepwire_model')} / "
                    f"{total(PADDED, _MODEL, by='stepwire_model')}",
                    "{{stepwire_model}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Batches that failed, and the cache",
            text="Failed: the model server's log has the cause. No data until one has, or until a "
            "model has a response cache.",
            queries=(
                Query(
                    total("stepwire_model_batch_failures_total", _MODEL, by="stepwire_model"),
                    "failed {{stepwire_model}}",
                ),
                Query(
                    total(
                        "stepwire_model_cache_calls_total",
                        _MODEL,
                        by="stepwire_model_cache_outcome",
                    ),
                    "cache {{stepwire_model_cache_outcome}}",
                ),
            ),
            unit="ops",
        ),
    ),
)

WRITING: Final = Row(
    "Models that write (no data without one)",
    (
        Panel(
            title="Texts",
            text="By outcome; `abandoned`: the caller went away.",
            queries=(
                Query(
                    total(
                        "stepwire_model_generate_calls_total",
                        _MODEL,
                        by="stepwire_model_generate_outcome",
                    ),
                    "{{stepwire_model_generate_outcome}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time to the first token, p95",
            text="The prompt is read in it.",
            queries=(
                Query(
                    quantile(
                        0.95,
                        "stepwire_model_generate_first_token_duration_seconds",
                        _MODEL,
                        by="stepwire_model",
                    ),
                    "{{stepwire_model}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Tokens",
            text="Read and written.",
            queries=(
                Query(
                    total(
                        "stepwire_model_generate_tokens_total",
                        _MODEL,
                        by="stepwire_model_generate_token_kind",
                    ),
                    "{{stepwire_model_generate_token_kind}}",
                ),
            ),
            unit="ops",
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-models",
    title="Stepwire / Models",
    text="How long calls wait, how full batches are, and where models run.",
    rows=(CALLS, BATCHES, WRITING),
    variables=(Variable("model", "Model", "stepwire_model_fallbacks", "stepwire_model"),),
    traces=(Operation("Traces of the model server", "model"),),
)
