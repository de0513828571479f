"""Asks a Prometheus for every expression of the boards, and tells which have no data there.

`python -m deploy.observability.boards.ask http://localhost:9090`
"""

import json
import sys
from collections.abc import Iterator
from urllib.parse import urlencode
from urllib.request import urlopen

from deploy.observability.boards.board import Board, Panel, Query
from deploy.observability.boards.files import BOARDS

# As Grafana does for an hour at a scrape interval of 10 s.
_REPLACED = (("$__rate_interval", "1m"),)


def main(address: str) -> None:
    """Prints a line for each expression: how many series, of which board and panel."""
    for board, panel, query in every():
        series = ask(address, plain(board, query.expr))
        print(f"{series:4}  {board.title} > {panel.title} > {query.legend}")


def every() -> Iterator[tuple[Board, Panel, Query]]:
    """Gives every expression with its panel and board."""
    for board in BOARDS:
        for row in board.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield board, panel, query


def plain(board: Board, expr: str) -> str:
    """Returns an expression with all values chosen, for Prometheus itself."""
    chosen = ((f"${variable.name}", ".*") for variable in board.variables)
    for name, value in (*_REPLACED, *chosen):
        expr = expr.replace(name, value)
    return expr


def ask(address: str, expr: str) -> int:
    """Returns how many series an expression has now.

    Raises:
        urllib.error.HTTPError: Prometheus does not understand it.
    """
    url = f"{address}/api/v1/query?{urlencode({'query': expr})}"
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - the caller's own address
        return len(json.load(answer)["data"]["result"])


if __name__ == "__main__":
    main(sys.argv[1])
