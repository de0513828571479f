"""Dashboards as Grafana's JSON, of the schema that versions 11 and 12 read."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from deploy.observability.boards.board import Board, Limits, Operation, Panel, Query, Variable

SCHEMA: Final = 39
COLUMNS: Final = 24
TAG: Final = "stepwire"
JAEGER: Final = "http://localhost:16686"
WITH_EXEMPLARS: Final = (
    "rpc_server_call_duration_seconds_bucket",
    "stepwire_worker_step_duration_seconds_bucket",
)
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def to_json(board: Board) -> dict[str, Any]:
    """Returns a dashboard as Grafana provisions it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.text,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [_alerts()]},
        "templating": {"list": [*_settings(), *map(_variable, board.variables)]},
        "links": [_other_boards(), *map(_traces, board.traces)],
        "panels": list(_panels(board)),
    }


def _panels(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in board.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            yield _panel(number, panel, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [
            _target(chr(ord("A") + at), each, panel) for at, each in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": _merged()} if panel.kind == "table" else {}),
    }


def _target(ref: str, query: Query, panel: Panel) -> dict[str, Any]:
    now = panel.kind != "timeseries"
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "exemplar": not now and any(name in query.expr for name in WITH_EXEMPLARS),
        "range": not now,
        "instant": now,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel.limits)},
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": 60_000,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return defaults


def _steps(limits: Limits | None) -> list[dict[str, Any]]:
    if limits is None:
        return [{"color": "green", "value": None}]
    if limits.falling:
        return [
            {"color": "red", "value": None},
            {"color": "yellow", "value": limits.red},
            {"color": "green", "value": limits.yellow},
        ]
    return [
        {"color": "green", "value": None},
        {"color": "yellow", "value": limits.yellow},
        {"color": "red", "value": limits.red},
    ]


def _options(panel: Panel) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area"}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
    return {"showHeader": True, "cellHeight": "sm"}


def _merged() -> list[dict[str, Any]]:
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}}},
    ]


def _settings() -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "hide": 0,
        },
        {
            "name": "jaeger",
            "label": "Jaeger",
            "type": "textbox",
            "query": JAEGER,
            "current": {"text": JAEGER, "value": JAEGER},
            "hide": 0,
        },
    ]


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric}, {variable.of})"
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": query, "refId": "Values"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Stepwire.*", alertstate="firing", severity="page"}',
        "titleFormat": "{{alertname}}",
        "step": "60s",
    }


def _other_boards() -> dict[str, Any]:
    return {
        "title": "Stepwire",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _traces(operation: Operation) -> dict[str, Any]:
    wanted = {"service": operation.service, "lookback": "1h", "limit": "20"}
    if operation.name:
        wanted["operation"] = operation.name
    return {
        "title": operation.title,
        "type": "link",
        "icon": "external link",
        "url": "${jaeger}/search?" + urlencode(wanted),
        "targetBlank": True,
    }
