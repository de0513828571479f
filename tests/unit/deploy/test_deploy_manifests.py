"""What the Kubernetes manifests promise: to Kubernetes, to who runs them, and to our settings."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.edge.clusters import clusters
from gateway.mesh import HEALTH
from gateway.settings import GatewaySettings
from stepwire.probe import WORKER_SAMPLE
from tests.unit.deploy.workloads import (
    Process,
    known,
    objects,
    of_kind,
    processes,
    read,
)

PROCESSES = {process.name: process for process in processes()}
# Between the end of the drain and SIGKILL: for the last spans, and the process's own end.
SLACK_SECONDS = 5
NAMES_OF_OTHERS = {
    *("POD_NAME", "POD_NAMESPACE", "NODE_NAME"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
}

each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=list(PROCESSES))


def test_kubernetes_takes_every_object() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for each in objects():
        validate.validate(each, "1.34", strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    (account,) = of_kind("ServiceAccount")
    with pytest.raises(validate.ValidationError):
        validate.validate(account | {"automountToken": False}, "1.34", strict=True)


def test_every_part_is_there() -> None:
    assert {process.module for process in PROCESSES.values()} == {
        *("executor_svc", "executor_svc.worker", "router_svc", "vector_svc", "model_svc"),
        *("gateway", "gateway.config"),
    }
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        assert {each["metadata"]["name"] for each in of_kind(kind)} == set(PROCESSES)


@each_process
def test_variables_are_settings_and_their_values_are_taken(process: Process) -> None:
    names = [each["name"] for each in process.container["env"]]
    assert len(names) == len(set(names))
    assert set(names) - NAMES_OF_OTHERS <= known(process.kind)
    settings = read(process.variables(), process.kind)
    assert settings.host == "0.0.0.0"


@each_process
def test_secrets_come_from_secrets(process: Process) -> None:
    for each in process.container["env"]:
        if any(word in each["name"] for word in ("_URL", "_KEY", "PASSWORD")):
            assert set(each["valueFrom"]) == {"secretKeyRef"}
    assert not of_kind("Secret")


@each_process
def test_a_process_may_do_little(process: Process) -> None:
    spec = process.pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    # Otherwise a Service of the namespace could set STEPWIRE_ROUTER_PORT to tcp://….
    assert spec["enableServiceLinks"] is False
    assert process.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [
        mount["mountPath"]
        for mount in process.container["volumeMounts"]
        if not mount.get("readOnly")
    ]
    assert writable == ["/tmp"]
    for volume in spec["volumes"]:
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""})


@each_process
def test_a_process_asks_for_what_it_needs_and_is_bounded(process: Process) -> None:
    resources = process.container["resources"]
    for bound in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(resources[bound])
    assert not process.container["image"].endswith(":latest")
    spread = {each["topologyKey"] for each in process.pod["spec"]["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def probes(process: Process) -> list[dict[str, Any]]:
    return [process.container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")]


@each_process
def test_ports_are_those_of_the_settings(process: Process) -> None:
    settings = read(process.variables(), process.kind)
    expected = {"metrics": settings.metrics_port}
    if process.module == "gateway.config":
        expected["http"] = settings.port
    elif process.module != "executor_svc.worker":
        expected["grpc"] = settings.port
    if process.module in {"router_svc", "gateway"}:
        expected["http"] = settings.http_port
    ports = {port["name"]: port["containerPort"] for port in process.container["ports"]}
    assert ports == expected
    for probe in probes(process):
        if "grpc" in probe:
            own = HEALTH if process.module == "gateway" else ""
            assert probe["grpc"] == {"port": settings.port, "service": own}
        elif "exec" in probe:
            assert probe["exec"]["command"][2:] == [
                "stepwire.probe",
                "worker",
                str(ports["metrics"]),
            ]
        else:
            (check,) = (probe[key] for key in ("httpGet", "tcpSocket") if key in probe)
            assert check["port"] in ports


def test_a_worker_is_asked_for_a_metric_of_workers() -> None:
    assert WORKER_SAMPLE == "stepwire_worker_slots"


def wait_of_gateway() -> timedelta:
    """How long the gateway may go on sending calls to a service that says NOT_SERVING."""
    (check,) = clusters(GatewaySettings())[0].health_checks
    return check.interval * check.unhealthy_threshold + check.timeout


@each_process
def test_a_process_has_the_time_that_it_needs_to_stop(process: Process) -> None:
    grace = process.pod["spec"]["terminationGracePeriodSeconds"]
    if process.module == "gateway.config":
        command = process.container["lifecycle"]["preStop"]["exec"]["command"]
        least, most = (
            float(command[command.index(f"--{name}-seconds") + 1]) for name in ("least", "most")
        )
        # Until those who ask for readiness have asked once more.
        readiness = process.container["readinessProbe"]
        assert least > readiness["periodSeconds"]
        assert least < most <= grace - SLACK_SECONDS
        return
    settings = read(process.variables(), process.kind)
    assert settings.drain_seconds <= grace - SLACK_SECONDS
    if process.module != "executor_svc.worker":
        assert settings.linger_seconds > wait_of_gateway().total_seconds()
        assert settings.linger_seconds <= settings.drain_seconds / 2


def test_a_slow_start_is_waited_for() -> None:
    for process in PROCESSES.values():
        probe = process.container["startupProbe"]
        patience = probe["periodSeconds"] * probe["failureThreshold"]
        if process.module == "gateway.config":
            continue
        settings = read(process.variables(), process.kind)
        assert patience > settings.start_seconds
        if process.module == "model_svc":
            assert patience > settings.load_timeout_seconds


def selected(selector: dict[str, Any]) -> set[str]:
    return {
        name
        for name, process in PROCESSES.items()
        if set(selector["matchLabels"].items()) <= set(process.labels.items())
    }


def test_everything_selects_the_pods_that_it_is_for() -> None:
    for each in (*of_kind("Deployment"), *of_kind("PodDisruptionBudget")):
        assert selected(each["spec"]["selector"]) == {each["metadata"]["name"]}
    for each in of_kind("NetworkPolicy"):
        assert selected(each["spec"]["podSelector"]) == {each["metadata"]["name"]}
    for each in of_kind("Service"):
        assert selected({"matchLabels": each["spec"]["selector"]}) == {each["metadata"]["name"]}
    for each in of_kind("HorizontalPodAutoscaler"):
        assert each["spec"]["scaleTargetRef"]["name"] == each["metadata"]["name"]
        assert each["metadata"]["name"] in PROCESSES
        # A disruption budget lets one pod go at a time; a service of one pod would be gone.
        assert each["spec"]["minReplicas"] >= 2


def calls() -> list[tuple[Process, Process, int]]:
    """Who calls whom on which port, by the targets that processes are given."""
    services = {
        f"{each['metadata']['name']}.{each['metadata']['namespace']}.svc": each
        for each in of_kind("Service")
    }
    found = []
    for caller in PROCESSES.values():
        for name, value in caller.variables().items():
            if not name.endswith("_TARGET"):
                continue
            host, _, port = value.rpartition(":")
            service = services[host]
            # A name with the addresses of all pods: gRPC would keep to one behind a single one.
            assert service["spec"]["clusterIP"] == "None"
            (target,) = (
                each["targetPort"] for each in service["spec"]["ports"] if each["port"] == int(port)
            )
            callee = PROCESSES[service["metadata"]["name"]]
            (number,) = (
                each["containerPort"]
                for each in callee.container["ports"]
                if each["name"] == target
            )
            found.append((caller, callee, number))
    return found


def allows(rules: list[dict[str, Any]], port: int, peer: str, *, side: str) -> bool:
    return any(
        port in {each["port"] for each in rule.get("ports", [])}
        and (side not in rule or any(peer in selected(p["podSelector"]) for p in rule[side]))
        for rule in rules
    )


def test_every_call_is_let_through_and_no_other() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    made = calls()
    assert len(made) == 7 + 4 + 2 + 1 + 3 * 2
    for caller, callee, port in made:
        assert allows(policies[callee.name]["ingress"], port, caller.name, side="from")
        assert allows(policies[caller.name]["egress"], port, callee.name, side="to")
    by_callee = {(callee.name, port, caller.name) for caller, callee, port in made}
    for name, policy in policies.items():
        for rule in policy["ingress"]:
            for peer in rule.get("from", []):
                for caller in selected(peer["podSelector"]) if "podSelector" in peer else ():
                    for port in rule["ports"]:
                        # The port for HTTP beside gRPC is the gateway's alone.
                        http = (name, port["port"]) in {
                            ("stepwire-router", 50062),
                            ("stepwire-companion", 50065),
                        }
                        assert http or (name, port["port"], caller) in by_callee


def test_steps_are_taken_for_the_queues_that_workers_serve() -> None:
    served: set[str] = set()
    for process in PROCESSES.values():
        if process.module == "executor_svc.worker":
            served |= set(read(process.variables(), process.kind).queues)
    executor = PROCESSES["stepwire-executor"]
    assert set(read(executor.variables(), executor.kind).queues) == served
