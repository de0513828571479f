"""Fixtures and helpers for tests against the real servers; users may import them too.

Load the fixtures with `pytest_plugins = ["stepwire.testing.plugin"]` in a conftest.py.
"""
