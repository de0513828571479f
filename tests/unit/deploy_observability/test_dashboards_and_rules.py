"""Boards and rules name what processes tell, and what is committed is what the program writes."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from deploy.observability.boards.ask import every, plain
from deploy.observability.boards.files import BOARDS, FOLDER, contents
from deploy.observability.boards.grafana import to_json
from tests.unit.deploy_observability.instruments import exposed
from tests.unit.deploy_observability.promql_read import UnreadableError, read

ROOT = Path(__file__).resolve().parents[3]
RULES = sorted((FOLDER / "prometheus" / "rules").glob("*.yml"))
REGISTRY = yaml.safe_load((FOLDER / "metrics.yaml").read_text())
TARGET = {"component", "instance", "job"}
PROMTOOL = shutil.which("promtool") or os.environ.get("PROMTOOL")
needs_promtool = pytest.mark.skipif(
    not PROMTOOL, reason="promtool is not installed (Debian: prometheus)"
)


@cache
def rules():
    """Return every rule."""
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


@cache
def known():
    """Return every series that may be named, with its labels."""
    series = {"ALERTS": TARGET | {"alertname", "alertstate", "severity", "window"}}
    for family, (kind, *labels) in {
        name: entry for part in REGISTRY.values() for name, entry in part.items()
    }.items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        for part in parts:
            series[family + part] = TARGET | set(labels) | ({"le"} if part == "_bucket" else set())
    for rule in rules():
        if "record" in rule:
            series[rule["record"]] = read(rule["expr"]).grouped
    return series


def unknown(expression, legend=""):
    """Return what an expression names that nobody tells; `legend` may name labels, too."""
    series, named = known(), read(expression)
    strange = [name for name, _ in named.metrics if name not in series]
    strange += [
        f"{name}{{{label}}}"
        for name, labels in named.metrics
        for label in labels - series.get(name, labels)
    ]
    all_labels = set().union(*(series.get(name, set()) for name, _ in named.metrics))
    shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))
    return strange + sorted((named.grouped | shown) - all_labels)


def test_the_registry_says_what_our_code_tells():
    told = {name: [kind, *sorted(labels)] for name, (kind, labels) in exposed().items()}
    assert REGISTRY["stepwire"] == told


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_boards_name_what_processes_tell(board):
    faults = {
        f"{panel.title}: {query.expr}": strange
        for each, panel, query in every()
        if each is board and (strange := unknown(plain(board, query.expr), query.legend))
    }
    for variable in board.variables:
        if variable.of not in known()[variable.metric]:
            faults[variable.name] = [variable.of]
    assert faults == {}


def test_rules_name_what_processes_tell():
    faults = {
        rule.get("record") or rule["alert"]: strange
        for rule in rules()
        if (strange := unknown(rule["expr"]))
    }
    assert faults == {}


def test_what_is_committed_is_what_the_program_writes():
    written = {path.name: path.read_text() for path in contents()}
    assert written == {path.name: text for path, text in contents().items()}, (
        "run: python -m deploy.observability.boards"
    )
    there = {path.name for path in (FOLDER / "grafana" / "dashboards").iterdir()}
    assert there == {f"{board.uid}.json" for board in BOARDS}


def test_panels_do_not_overlap_and_say_what_to_do():
    for board in BOARDS:
        taken = set()
        for panel in to_json(board)["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            taken |= cells
            if panel["type"] != "row":
                assert panel["description"], panel["title"]
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_pages_that_boards_name_are_there():
    for board in BOARDS:
        for page in re.findall(r"docs/[\w/-]+\.md", json.dumps(to_json(board))):
            assert (ROOT / page).is_file(), f"{board.uid}: {page}"


def test_every_alert_says_what_is_wrong_and_has_a_runbook():
    pages = set()
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.read_text().startswith(f"# {rule['alert']}\n"), page
        pages.add(page.name)
    there = {path.name for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README.md"}
    assert there == pages


def test_every_alert_has_been_seen_to_fire():
    tests = (FOLDER / "prometheus" / "tests" / "alerts_test.yml").read_text()
    fired = set(re.findall(r'\{alertname="(\w+)"\}', tests)) | {"StepwireComponentAbsent"}
    assert fired == {rule["alert"] for rule in alerts()}


@needs_promtool
def test_promtool_reads_configuration_and_rules():
    for name in ("prometheus.yml", "compose.yml"):
        promtool("check", "config", FOLDER / "prometheus" / name)


@needs_promtool
def test_alerts_fire_when_they_should():
    promtool("test", "rules", FOLDER / "prometheus" / "tests" / "alerts_test.yml")


@needs_promtool
def test_promtool_reads_every_expression_of_the_boards(tmp_path):
    expressions = [plain(board, query.expr) for board, _, query in every()]
    path = tmp_path / "boards.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "groups": [
                    {
                        "name": "boards",
                        "rules": [
                            {"record": f"board:{number}", "expr": expression}
                            for number, expression in enumerate(expressions)
                        ],
                    }
                ]
            }
        )
    )
    promtool("check", "rules", path)


def promtool(*arguments):
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_and_labels_are_read_from_promql():
    named = read(
        'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{b=~"c|{", d!="e"}[5m]))) '
        "/ on (a) group_left (f) y offset 5m and z:w > bool 1e-3 or -vector(1)"
    )
    assert named.metrics == [
        ("x_bucket", frozenset({"b", "d"})),
        ("y", frozenset()),
        ("z:w", frozenset()),
    ]
    assert named.grouped == {"le", "a", "f"}
    assert read("sum(x) without (a)").grouped == {"a"}


@pytest.mark.parametrize(
    "wrong", ["sum(x", "sum(x))", "rate(x[5m)", "x{a}", "ratio(x)", "x & y", 'x{a="b}', "x]"]
)
def test_what_is_no_promql_is_told(wrong):
    with pytest.raises(UnreadableError):
        read(wrong)


def test_a_metric_or_label_that_nobody_tells_is_told():
    assert unknown("sum by (nothing) (stepwire_queue_redy)") == ["stepwire_queue_redy", "nothing"]
    assert unknown('stepwire_queue_ready{queue="a"}', "{{gone}}") == [
        "stepwire_queue_ready{queue}",
        "gone",
    ]
