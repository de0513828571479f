"""Subscriptions: what happens elsewhere when something happens to a task."""
