"""The command line: `stepwire`."""

from stepwire.cli.app import main

__all__ = ["main"]
