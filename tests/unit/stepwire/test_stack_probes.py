import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stepwire.stack.ports import LOOPBACK, free_port
from stepwire.stack.probes import serves_metric
from stepwire.stack.service import WORKER_SLOTS_SAMPLE

METRICS = {
    "starting": "# HELP python_info\npython_info 1.0\n",
    "started": f"python_info 1.0\n{WORKER_SLOTS_SAMPLE} 200.0\n",
}


@pytest.fixture(params=METRICS)
def worker(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A worker's metrics before and after it has started: which, and on which port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(METRICS[request.param].encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield request.param, server.server_port
        server.shutdown()
        thread.join()


async def test_a_worker_is_ready_once_it_has_slots(worker: tuple[str, int]) -> None:
    state, port = worker
    assert await serves_metric(port, WORKER_SLOTS_SAMPLE) == (state == "started")


async def test_where_nothing_listens_nothing_is_ready() -> None:
    assert not await serves_metric(free_port(), WORKER_SLOTS_SAMPLE)
