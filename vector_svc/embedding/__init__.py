"""Text into vectors, by the model service."""
