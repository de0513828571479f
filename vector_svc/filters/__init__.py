"""Filters: which points count, as a tree of conditions that becomes SQL."""
