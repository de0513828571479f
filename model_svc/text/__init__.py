"""The extractive small text model: answers by quoting sentences. Pure over an `Embedder`."""
