"""Runs the model service: `python -m model_svc`."""

from functools import partial

from model_svc.app import build
from model_svc.settings import ModelSettings
from stepwire.environment import read_settings
from stepwire.rpc import run


def main() -> None:
    """Reads the settings and serves until told to stop."""
    settings = read_settings(ModelSettings)
    run("model", settings, partial(build, settings=settings))


if __name__ == "__main__":
    main()
