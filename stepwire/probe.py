"""Asks a process on this machine whether it is ready: `python -m stepwire.probe`.

For containers, whose health commands run inside of them, several times a minute: hence
without asyncio, and without gRPC where it is not needed.

    python -m stepwire.probe grpc 50051
    python -m stepwire.probe grpc 50055 --service grpc.health.v1.Health
    python -m stepwire.probe worker 9111
    python -m stepwire.probe http 8080 /healthz

The exit code is 0 if it is ready, and 1 if not.
"""

import argparse
import http.client
import sys
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"
TIMEOUT_SECONDS = 2.0
HTTP_OK = 200
# As Prometheus writes the name of the metric: a worker serves it once it takes steps.
WORKER_SAMPLE = "stepwire_worker_slots"


def grpc_serving(port: int, service: str) -> bool:
    """Returns whether the gRPC server on `port` says that a service is SERVING."""
    import grpc  # noqa: PLC0415
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(f"{LOOPBACK}:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def http_text(port: int, path: str) -> str | None:
    """Returns what the HTTP server on `port` answers; None unless that is a 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if response.status == HTTP_OK else None


def worker_ready(port: int) -> bool:
    """Returns whether the worker whose metrics are on `port` takes steps."""
    return f"\n{WORKER_SAMPLE}" in (http_text(port, "/metrics") or "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Asks as the command line says, and exits."""
    parser = argparse.ArgumentParser(prog="python -m stepwire.probe", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("grpc", "worker", "http"):
        kinds.add_parser(kind).add_argument("port", type=int)
    kinds.choices["grpc"].add_argument("--service", default="")
    kinds.choices["http"].add_argument("path")
    options = parser.parse_args(arguments)
    match options.kind:
        case "grpc":
            ready = grpc_serving(options.port, options.service)
        case "worker":
            ready = worker_ready(options.port)
        case _:
            ready = http_text(options.port, options.path) is not None
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
