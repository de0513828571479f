"""Which models answer, what fails, and what it costs."""

from typing import Final

from deploy.observability.boards.board import Board, Limits, Operation, Panel, Query, Row, Variable
from deploy.observability.boards.expressions import quantile, total

TRIES: Final = "gen_ai_client_operation_duration_seconds"
TOKENS: Final = "gen_ai_client_token_usage"
_MODEL: Final = 'gen_ai_request_model=~"$model"'
COST: Final = "stepwire_router_cost_total"
_TENANT: Final = 'stepwire_tenant_id=~"$tenant"'
_BUDGET: Final = "stepwire_tenant_id, stepwire_router_budget"

ROUTES: Final = Row(
    "Decisions and tries",
    (
        Panel(
            title="Decisions",
            text="By model and outcome; anything but `chosen` is the reason of a refusal.",
            queries=(
                Query(
                    total(
                        "stepwire_router_decisions_total",
                        _MODEL,
                        by="gen_ai_request_model, stepwire_router_outcome",
                    ),
                    "{{gen_ai_request_model}} {{stepwire_router_outcome}}",
                ),
            ),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Time of a try, p95",
            text="With one model. Slow: its provider; the router goes on to the next when "
            "it fails, not when it is slow.",
            queries=(
                Query(
                    quantile(0.95, TRIES, _MODEL, by="gen_ai_request_model"),
                    "{{gen_ai_request_model}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Tries that brought no answer",
            text="By model and class of failure. rate_limited: raise the provider's limit, or the "
            "catalogue's is too high; misconfigured: a key or a name is wrong.",
            queries=(
                Query(
                    total(
                        f"{TRIES}_count",
                        f'error_type!="", {_MODEL}',
                        by="gen_ai_request_model, error_type",
                    ),
                    "{{gen_ai_request_model}} {{error_type}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Time to the first piece of a stream, p95",
            text="What a reader waits for. No data without streams.",
            queries=(
                Query(
                    quantile(
                        0.95,
                        "gen_ai_client_operation_time_to_first_chunk_seconds",
                        _MODEL,
                        by="gen_ai_request_model",
                    ),
                    "first {{gen_ai_request_model}}",
                ),
                Query(
                    quantile(
                        0.95,
                        "gen_ai_client_operation_time_per_output_chunk_seconds",
                        _MODEL,
                        by="gen_ai_request_model",
                    ),
                    "each token {{gen_ai_request_model}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Open breakers",
            text="1 while nothing is sent there but a probe. docs/runbooks/breaker-open.md",
            queries=(
                Query(
                    "max by (stepwire_router_breaker) (stepwire_router_breaker_open)",
                    "{{stepwire_router_breaker}}",
                ),
            ),
            most=1,
        ),
        Panel(
            title="Tries kept back by the catalogue's limits",
            text="Requests or tokens per minute, or calls at once. They go to the next or are "
            "refused if there is none.",
            queries=(
                Query(
                    total(
                        "stepwire_router_limits_refused_total",
                        _MODEL,
                        by="gen_ai_request_model, stepwire_router_limit",
                    ),
                    "{{gen_ai_request_model}} {{stepwire_router_limit}}",
                ),
            ),
            unit="ops",
        ),
    ),
)

MONEY: Final = Row(
    "Money",
    (
        Panel(
            title="Cost per hour",
            text="By the catalogue's prices, at the present pace.",
            queries=(
                Query(
                    f"3600 * {total(COST, _MODEL, by='gen_ai_request_model')}",
                    "{{gen_ai_request_model}}",
                ),
            ),
            unit="currencyUSD",
            stacked=True,
        ),
        Panel(
            title="Left in budgets",
            text="Share of the limit, of budgets without a split, as last seen by a call. 0: calls "
            "are refused or go to cheaper models. docs/runbooks/budget-nearly-spent.md",
            queries=(
                Query(
                    f"min by ({_BUDGET}) (stepwire_router_budget_left{{{_TENANT}}}) "
                    f"/ (max by ({_BUDGET}) (stepwire_router_budget_limit{{{_TENANT}}}) > 0)",
                    "{{stepwire_tenant_id}} {{stepwire_router_budget}}",
                ),
            ),
            unit="percentunit",
            kind="bargauge",
            limits=Limits(0.25, 0.1, falling=True),
            most=1,
        ),
        Panel(
            title="Tries that a budget kept back",
            text="And alarms that rang. No data until one has.",
            queries=(
                Query(
                    total("stepwire_router_budget_refusals_total", _TENANT, by=_BUDGET),
                    "refused {{stepwire_tenant_id}} {{stepwire_router_budget}}",
                ),
                Query(
                    total(
                        "stepwire_router_budget_alarms_total",
                        _TENANT,
                        by=f"{_BUDGET}, stepwire_router_budget_percent",
                    ),
                    "{{stepwire_router_budget_percent}} % {{stepwire_router_budget}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Tokens",
            text="Read and written, by model.",
            queries=(
                Query(
                    total(f"{TOKENS}_sum", _MODEL, by="gen_ai_request_model, gen_ai_token_type"),
                    "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Account that is not as it should be",
            text="exceeded: a provider used more than was held; lost: an instance died with a call "
            "under way, which was charged at its most; unwritten: Postgres did not take it. "
            "Any of them is worth a look into the router's log. No data until one has happened.",
            queries=(
                Query(total("stepwire_router_budget_exceeded_total"), "exceeded"),
                Query(total("stepwire_router_budget_lost_total"), "lost"),
                Query(total("stepwire_router_usage_lost_total"), "unwritten"),
            ),
            unit="ops",
        ),
        Panel(
            title="Calls of a model at once",
            text="Under way from each instance, of what it may.",
            queries=(
                Query(
                    f"sum by (gen_ai_request_model) (stepwire_router_slots_used{{{_MODEL}}})",
                    "used {{gen_ai_request_model}}",
                ),
                Query(
                    f"sum by (gen_ai_request_model) (stepwire_router_slots_held{{{_MODEL}}})",
                    "may {{gen_ai_request_model}}",
                ),
            ),
        ),
    ),
)

CACHE: Final = Row(
    "Answers that are kept, and learning",
    (
        Panel(
            title="Requests to the cache",
            text="By what they got. No data until a request allows the cache.",
            queries=(
                Query(
                    total("stepwire_router_cache_lookups_total", by="stepwire_router_cache_result"),
                    "{{stepwire_router_cache_result}}",
                ),
                Query(
                    total("stepwire_router_cache_errors_total", by="stepwire_router_cache_part"),
                    "not there: {{stepwire_router_cache_part}}",
                ),
            ),
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Saved per hour, and memory",
            text="What answers that were given again had cost.",
            queries=(
                Query(f"3600 * {total('stepwire_router_cache_saved_total')}", "saved USD per hour"),
                Query("sum(stepwire_router_cache_memory_bytes) / 1024 / 1024", "MiB in memory"),
            ),
        ),
        Panel(
            title="Outcomes reported, versions trained, catalogues read",
            text="Refused catalogues leave the old one in use: see the router's log.",
            queries=(
                Query(total("stepwire_router_outcomes_total"), "outcomes"),
                Query(
                    total("stepwire_router_trainings_total", by="stepwire_router_outcome"),
                    "trained: {{stepwire_router_outcome}}",
                ),
                Query(
                    total("stepwire_router_catalogue_reads_total", by="stepwire_router_outcome"),
                    "catalogue {{stepwire_router_outcome}}",
                ),
            ),
            unit="ops",
        ),
    ),
)

BOARD: Final = Board(
    uid="stepwire-routing",
    title="Stepwire / Model routing and money",
    text="Which models answer, what fails on the way, what it costs, and what budgets have left.",
    rows=(ROUTES, MONEY, CACHE),
    variables=(
        Variable("model", "Model", "stepwire_router_decisions_total", "gen_ai_request_model"),
        Variable("tenant", "Tenant", "stepwire_router_budget_limit", "stepwire_tenant_id"),
    ),
    traces=(Operation("Traces of the router", "router"),),
)
