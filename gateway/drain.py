"""Lets Envoy's clients go before it is stopped: `python -m gateway.drain`.

Envoy ends at once on SIGTERM, with all calls under way. So before it gets that signal, as in
a container's preStop hook: /healthz fails from here on, which takes the gateway out of what
balances calls over several; each connection is closed as soon as its calls have ended; and
this command returns when nothing is under way any more, or its time is over.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence

import httpx2

from gateway.edge.clusters import LOOPBACK
from gateway.settings import GatewaySettings
from stepwire.environment import read_settings

LEAST_SECONDS = 5.0
MOST_SECONDS = 25.0
_LOOK_SECONDS = 0.25

# Watches are among them.
_UNDER_WAY = re.compile(r"^http\.edge\.downstream_rq_active: (\d+)$", re.MULTILINE)


async def drain(admin: str, *, least_seconds: float, most_seconds: float) -> int:
    """Takes Envoy out of service, and waits for what is under way.

    Args:
        admin: Host and port of Envoy's admin interface.
        least_seconds: How long to wait in any case: until then others may not know, and
            still send calls here, which are answered.
        most_seconds: How long to wait for calls under way.

    Returns:
        How many are still under way.

    Raises:
        httpx2.HTTPError: Envoy does not answer.
    """
    begun = time.monotonic()
    async with httpx2.AsyncClient(base_url=f"http://{admin}", trust_env=False) as client:
        (await client.post("/healthcheck/fail")).raise_for_status()
        while True:
            stats = await client.get("/stats?filter=^http.edge.downstream_rq_active$")
            found = _UNDER_WAY.search(stats.raise_for_status().text)
            left = 0 if found is None else int(found[1])
            waited = time.monotonic() - begun
            if waited >= most_seconds or (left == 0 and waited >= least_seconds):
                return left
            await asyncio.sleep(_LOOK_SECONDS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; where Envoy is comes from STEPWIRE_GATEWAY_ADMIN_PORT."""
    parser = argparse.ArgumentParser(prog="python -m gateway.drain", description=__doc__)
    parser.add_argument("--least-seconds", type=float, default=LEAST_SECONDS)
    parser.add_argument("--most-seconds", type=float, default=MOST_SECONDS)
    options = parser.parse_args(arguments)
    admin = f"{LOOPBACK}:{read_settings(GatewaySettings).admin_port}"
    try:
        left = asyncio.run(
            drain(admin, least_seconds=options.least_seconds, most_seconds=options.most_seconds)
        )
    except httpx2.HTTPError as error:
        sys.exit(f"Envoy does not answer at {admin}: {error}")
    if left:
        sys.exit(f"{left} calls are still under way")


if __name__ == "__main__":
    main()
