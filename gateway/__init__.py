"""The gateway: Envoy's configuration, and the companion service behind it."""
