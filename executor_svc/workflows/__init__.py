"""Workflows: graphs under names, in versions that never change once they were used."""
