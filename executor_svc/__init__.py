"""Durable execution: tasks, steps, and the workers that run them."""
