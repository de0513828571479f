"""The chart: what it is rendered to, and which values it takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.unit.deploy.workloads import CHART, DEPLOY, MANIFESTS

TOOLS = DEPLOY.parent / "tools"


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return found


def takes(*path: str, value: object) -> bool:
    """Whether the schema takes the defaults with one value more, or another one."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    changed = values()
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return bool(jsonschema_rs.is_valid(schema, changed))


def test_the_schema_is_that_of_the_values_and_settings() -> None:
    sys.path.insert(0, str(TOOLS))
    try:
        import chart_schema  # noqa: PLC0415 - a script, not a package
    finally:
        sys.path.pop(0)
    assert chart_schema.SCHEMA.read_text("utf-8") == chart_schema.page()


def test_values_are_taken_and_misspelt_ones_refused() -> None:
    assert takes("executor", "replicas", value=3)
    assert not takes("executor", "replica", value=3)
    assert takes("executor", "settings", value={"MAX_STEPS": 5})
    assert not takes("executor", "settings", value={"MAX_STEP": 5})
    assert takes("executor", "nodeSelector", value={"disk": "fast"})
    classes = values()["workers"]["classes"]["default"]
    assert takes("workers", "classes", "long-running", value=classes)
    assert not takes("workers", "classes", "Long_Running", value=classes)


def test_a_refusal_names_the_place() -> None:
    """Helm names a wrong place for what `propertyNames` refuses."""
    assert '"propertyNames"' not in (CHART / "values.schema.json").read_text("utf-8")


def test_what_the_chart_sets_cannot_be_set_twice() -> None:
    for name in ("PORT", "POSTGRES_URL", "DRAIN_SECONDS", "QUEUES"):
        assert not takes("executor", "settings", value={name: 1})


def test_a_secret_is_not_a_value() -> None:
    key = {"secret": "openai", "key": "api-key"}
    assert takes("router", "secretSettings", value={"OPENAI_API_KEY": key})
    assert not takes("router", "secretSettings", value={"OPENAI_MODEL": key})
    assert not takes("router", "settings", value={"OPENAI_API_KEY": "sk-1"})


def test_chart_and_image_have_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = (DEPLOY.parent / "pyproject.toml").read_text("utf-8")
    assert f'version = "{chart["appVersion"]}"' in project
    assert f"ARG VERSION={chart['appVersion']}" in (DEPLOY / "image/Dockerfile").read_text("utf-8")


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
def test_the_manifests_are_what_the_chart_is_rendered_to(tmp_path: Path) -> None:
    rendered = tmp_path / "rendered.yaml"
    subprocess.run([TOOLS / "render_manifests.sh", rendered], check=True)
    # As objects: versions of Helm differ in blank lines.
    fresh, committed = (
        list(yaml.safe_load_all(path.read_text("utf-8"))) for path in (rendered, MANIFESTS)
    )
    assert fresh == committed
