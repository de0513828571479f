"""A worker: takes steps from messages, runs them, records what came of them."""
