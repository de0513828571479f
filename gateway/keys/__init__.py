"""Keys: who may call the gateway."""
