"""Which parts a stack has, where they listen, and what they are told."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from executor_svc.settings import ExecutorSettings, WorkerSettings
from gateway.settings import CompanionSettings, GatewaySettings
from model_svc.settings import ModelSettings
from router_svc.settings import RouterSettings
from stepwire.api_keys import read_key
from stepwire.environment import misspelt
from stepwire.stack.part import Part
from stepwire.stack.plan import StackOptions, StackPlan, make_plan
from stepwire.stack.ports import PortError, PortPlan
from stepwire.stack.secrets import StackSecrets, make_first_key, stack_secrets
from stepwire.telemetry.collector import CollectorSettings
from vector_svc.settings import VectorSettings

SECRETS = StackSecrets(postgres_password="pg", rabbitmq_password="mq", home_key="k")
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


@pytest.fixture(autouse=True)
def rabbitmq_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwire.stack.rabbitmq.find_script", lambda: SCRIPT)


def plan_for(
    tmp_path: Path, environment: Mapping[str, str] | None = None, **options: object
) -> StackPlan:
    wishes = StackOptions(home=tmp_path, **options)  # type: ignore[arg-type]
    return make_plan(wishes, secrets=SECRETS, environment=environment or {})


def part(plan: StackPlan, name: str) -> Part:
    return next(part for part in plan.parts if part.name == name)


def environment_of(plan: StackPlan, name: str) -> Mapping[str, str]:
    return part(plan, name).command().environment


def test_every_part_comes_after_its_needs(tmp_path: Path) -> None:
    seen: set[str] = set()
    for one in plan_for(tmp_path).parts:
        assert set(one.needs) <= seen
        seen.add(one.name)
    assert {"worker-1", "worker-2"} <= seen


def test_what_a_part_uses_exists_and_never_uses_it_back(tmp_path: Path) -> None:
    """A circle would leave two parts waiting for each other's end."""
    plan = plan_for(tmp_path)
    below = {one.name: {*one.needs, *one.uses} for one in plan.parts}
    while below:
        free = [name for name, wanted in below.items() if not wanted & below.keys()]
        assert free, f"a circle among {sorted(below)}"
        for name in free:
            del below[name]


def test_an_offset_moves_every_port(tmp_path: Path) -> None:
    before = [claim.port for claim in plan_for(tmp_path).claims()]
    after = [claim.port for claim in plan_for(tmp_path, port_offset=100).claims()]
    assert after == [port + 100 for port in before]
    assert len(set(before)) == len(before)


def test_a_variable_sets_one_port_for_all_who_use_it(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"STEPWIRE_MODEL_PORT": "6000"}, port_offset=100)
    assert part(plan, "model").ports["grpc"] == 6000
    assert part(plan, "router").ports["grpc"] == 50152
    assert environment_of(plan, "router")["STEPWIRE_ROUTER_MODEL_TARGET"] == "127.0.0.1:6000"
    assert environment_of(plan, "worker-1")["STEPWIRE_WORKER_MODEL_TARGET"] == "127.0.0.1:6000"


def test_every_worker_has_a_metrics_port_of_its_own(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, workers=3)
    names = ["worker-1", "worker-2", "worker-3"]
    ports = [environment_of(plan, name)["STEPWIRE_WORKER_METRICS_PORT"] for name in names]
    assert ports == ["9111", "9112", "9113"]


def test_a_given_rabbitmq_is_used_and_none_started(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, rabbitmq_url="amqp://elsewhere/")
    assert plan.broker == "external"
    assert "rabbitmq" not in {one.name for one in plan.parts}
    for name, variable in [("executor", "EXECUTOR"), ("worker-1", "WORKER")]:
        told = environment_of(plan, name)[f"STEPWIRE_{variable}_RABBITMQ_URL"]
        assert told == "amqp://elsewhere/"


def test_without_rabbitmq_the_executor_works_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwire.stack.rabbitmq.find_script", lambda: None)
    plan = plan_for(tmp_path)
    assert plan.broker == "in-process"
    assert plan.workers == 0
    assert not [one.name for one in plan.parts if one.name.startswith("worker")]
    assert environment_of(plan, "executor")["STEPWIRE_EXECUTOR_RABBITMQ_URL"] == ""


def test_the_users_settings_go_before_the_plans(tmp_path: Path) -> None:
    users = {"STEPWIRE_ROUTER_MODEL_TARGET": "gpu:1", "STEPWIRE_ROUTER_CATALOGUE_PATH": "c.yaml"}
    told = environment_of(plan_for(tmp_path, users), "router")
    assert told["STEPWIRE_ROUTER_MODEL_TARGET"] == "gpu:1"
    assert told["STEPWIRE_ROUTER_CATALOGUE_PATH"] == "c.yaml"


def test_spans_go_through_the_collector_to_the_users_endpoint(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317"})
    assert environment_of(plan, "model")["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:43170"
    collector = environment_of(plan, "collector")
    assert collector["STEPWIRE_COLLECTOR_FORWARD_ENDPOINT"] == "http://jaeger:4317"
    assert collector["OTEL_EXPORTER_OTLP_ENDPOINT"] == ""


@pytest.mark.parametrize(
    ("environment", "offset", "message"),
    [
        ({"STEPWIRE_MODEL_PORT": "http"}, 0, "STEPWIRE_MODEL_PORT='http' is not a port number"),
        ({"STEPWIRE_MODEL_PORT": "70000"}, 0, "STEPWIRE_MODEL_PORT gives model the port 70000"),
        ({}, 30000, "the port offset 30000 gives model the port 80054"),
        ({}, -60000, "which does not exist"),
    ],
)
def test_ports_that_do_not_exist(environment: dict[str, str], offset: int, message: str) -> None:
    with pytest.raises(PortError, match=message):
        PortPlan(offset, environment).number("model")


def test_a_stack_with_keys_begins_with_one(tmp_path: Path) -> None:
    secrets = StackSecrets(
        postgres_password="pg", rabbitmq_password="mq", home_key="k", first_key="id:hash"
    )
    users = {"STEPWIRE_API_KEY": "mine"}
    wishes = StackOptions(home=tmp_path, auth=True)
    plan = make_plan(wishes, secrets=secrets, environment=users)
    told = environment_of(plan, "companion")
    assert told["STEPWIRE_COMPANION_FIRST_KEY"] == "id:hash"
    assert "pg@" in told["STEPWIRE_COMPANION_POSTGRES_URL"]
    assert part(plan, "companion").needs == ("postgres",)
    assert environment_of(plan, "gateway")["STEPWIRE_GATEWAY_AUTHENTICATION"] == "keys"
    # Not even as a variable that a step's function could read.
    assert not any("STEPWIRE_API_KEY" in environment_of(plan, one.name) for one in plan.parts)
    without = environment_of(plan_for(tmp_path), "companion")
    assert not {"STEPWIRE_COMPANION_POSTGRES_URL", "STEPWIRE_COMPANION_FIRST_KEY"} & set(without)


def test_the_first_key_is_made_once_and_not_kept(tmp_path: Path) -> None:
    text = make_first_key(tmp_path)
    assert text is not None
    assert make_first_key(tmp_path) is None
    kept = read_key(text)
    assert kept is not None
    assert stack_secrets(tmp_path).first_key == kept.reference
    (file,) = tmp_path.iterdir()
    assert text.rpartition("_")[2] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_processes_are_told_only_what_is_a_setting_of_theirs(tmp_path: Path) -> None:
    """Others would be warned of as misspelt, in every log."""
    kinds = {
        "executor": ExecutorSettings,
        "worker-1": WorkerSettings,
        "router": RouterSettings,
        "vector": VectorSettings,
        "model": ModelSettings,
        "companion": CompanionSettings,
        "gateway": GatewaySettings,
        "collector": CollectorSettings,
    }
    plan = plan_for(tmp_path, auth=True)
    told = {
        kind: list(misspelt(kind, environment_of(plan, name)))  # type: ignore[arg-type]
        for name, kind in kinds.items()
    }
    assert not any(told.values()), told
