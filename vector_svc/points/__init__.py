"""Points: written, read, counted, deleted."""
