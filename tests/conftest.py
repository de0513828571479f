"""Loads the fixtures that Stepwire offers to its users as well."""

pytest_plugins = ["stepwire.testing.plugin"]
