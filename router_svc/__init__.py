"""The router service: which model answers a request, and its answer."""
