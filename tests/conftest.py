"""Loads the fixtures that Stepwire offers to its users as well."""

import gc

pytest_plugins = ["stepwire.testing.plugin"]


def pytest_collection_finish() -> None:
    """Leave what collecting has made out of each later look for garbage."""
    gc.collect()
    gc.freeze()
