"""Carries a decision out: tries the models in order, and accounts for the answer."""
