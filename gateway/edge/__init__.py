"""What the gateway wants of Envoy, written in the model of `gateway.envoy`."""
