"""Grafana's dashboards and the rules of service levels, as a program that writes both.

`python -m deploy.observability.boards` writes `grafana/dashboards/*.json` and
`prometheus/rules/service-levels.yml`.
"""
