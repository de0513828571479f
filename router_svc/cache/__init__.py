"""Keeps answers and gives them again: to equal requests, and to those of the same meaning."""
