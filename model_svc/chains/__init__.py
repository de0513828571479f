"""Models that are called one after another, as one model: Triton's ensembles."""
