"""Runs the vector service: `python -m vector_svc`."""

from stepwire.environment import read_settings
from vector_svc import app
from vector_svc.settings import VectorSettings


def main() -> None:
    """Read the settings and serve until a signal ends the process."""
    app.run(read_settings(VectorSettings))


if __name__ == "__main__":
    main()
