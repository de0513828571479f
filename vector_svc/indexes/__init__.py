"""Builds of vector indexes, in the background."""
