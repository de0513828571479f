"""Searches: planned, carried out, ranked."""
