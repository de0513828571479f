"""The files that are written, and what is in them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.observability.boards import gateway, models, overview, queues, routing, vectors
from deploy.observability.boards.grafana import to_json
from deploy.observability.boards.levels import rules

FOLDER: Final = Path(__file__).resolve().parent.parent
BOARDS: Final = (
    overview.BOARD,
    queues.BOARD,
    routing.BOARD,
    models.BOARD,
    vectors.BOARD,
    gateway.BOARD,
)


def contents() -> Mapping[Path, str]:
    """Returns the text of each file."""
    boards = {
        FOLDER / "grafana" / "dashboards" / f"{board.uid}.json": json.dumps(
            to_json(board), indent=1, ensure_ascii=False
        )
        + "\n"
        for board in BOARDS
    }
    return {**boards, FOLDER / "prometheus" / "rules" / "service-levels.yml": rules()}


def write() -> Sequence[Path]:
    """Writes all files and returns where they are."""
    texts = contents()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)
