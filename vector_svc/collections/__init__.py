"""Collections: made, found, changed, deleted."""
