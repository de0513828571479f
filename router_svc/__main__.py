"""Runs the router service: `python -m router_svc`."""

import os
from functools import partial

from router_svc.app import build
from router_svc.settings import RouterSettings
from stepwire.environment import read_settings
from stepwire.rpc import run


def main() -> None:
    """Reads the settings and serves until told to stop."""
    settings = read_settings(RouterSettings)
    run("router", settings, partial(build, settings=settings, environment=os.environ))


if __name__ == "__main__":
    main()
