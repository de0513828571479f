"""Counts the tokens of requests."""
