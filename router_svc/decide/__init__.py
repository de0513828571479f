"""Decides which model answers a request, and says why."""
