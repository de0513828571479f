"""Runs the gateway's companion: `python -m gateway`."""

from gateway import app
from gateway.settings import CompanionSettings
from stepwire.environment import read_settings


def main() -> None:
    """Reads the settings and serves until a signal ends the process."""
    app.run(read_settings(CompanionSettings))


if __name__ == "__main__":
    main()
