"""What Prometheus is told to scrape, and Grafana, Jaeger and the collector to read."""

import re

import pytest
import yaml

from deploy.observability.boards.files import FOLDER
from stepwire.stack.ports import DEFAULTS

REGISTRY = yaml.safe_load((FOLDER / "metrics.yaml").read_text())
FILES = sorted(path for path in FOLDER.rglob("*.y*ml"))


def scrapes(path):
    return {job["job_name"]: job for job in yaml.safe_load(path.read_text())["scrape_configs"]}


def kept(job, name):
    """Return whether a scrape keeps a metric."""
    return all(
        re.fullmatch(rule["regex"], name) is not None
        for rule in job.get("metric_relabel_configs", ())
        if rule["action"] == "keep"
    )


def test_the_local_stack_is_scraped_where_it_listens():
    jobs = scrapes(FOLDER / "prometheus" / "prometheus.yml")
    ports = {
        group["labels"]["component"]: int(group["targets"][0].rpartition(":")[2])
        for job in jobs.values()
        for group in job["static_configs"]
    }
    assert ports == {
        **{
            name.removesuffix("-metrics"): default.number
            for name, default in DEFAULTS.items()
            if name.endswith("-metrics")
        },
        "gateway": DEFAULTS["gateway-admin"].number,
    }


@pytest.mark.parametrize("name", ["prometheus.yml", "compose.yml"])
def test_scrapes_keep_what_boards_and_rules_may_name(name):
    jobs = scrapes(FOLDER / "prometheus" / name)
    for family, (kind, *_) in REGISTRY["envoy"].items():
        full = family + ("_bucket" if kind == "histogram" else "")
        assert kept(jobs["stepwire-gateway"], full), family
    assert not kept(jobs["stepwire-gateway"], "envoy_dns_cares_timeouts")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_yaml(path):
    assert all(yaml.safe_load_all(path.read_text()))


def test_containers_find_what_they_mount():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    mounted = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if volume.startswith("./")
    }
    assert len(mounted) == 4
    assert [path for path in mounted if not (FOLDER.parent / path).exists()] == []


def test_grafana_is_told_what_its_files_ask_for():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    files = (FOLDER / "grafana" / "provisioning").rglob("*.yaml")
    asked = {name for path in files for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert asked <= services["grafana"]["environment"].keys()


def test_pods_are_monitored_by_the_same_component():
    monitors = list(yaml.safe_load_all((FOLDER / "kubernetes" / "podmonitors.yaml").read_text()))
    for monitor in monitors:
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert "component" in {rule["targetLabel"] for rule in endpoint["relabelings"]}
    [workers] = monitors[0]["spec"]["podMetricsEndpoints"][0]["relabelings"]
    found = re.fullmatch(workers["regex"], "worker-llm")
    assert found is not None
    assert (found[1] or "") + (found[2] or "") == "worker"
