"""Stepwire: durable step-wise AI-agent tasks. The kernel of all services, and the SDK."""
