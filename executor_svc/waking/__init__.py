"""Who must hear of a commit: workers, watchers, those that wait for a place, other tasks."""
