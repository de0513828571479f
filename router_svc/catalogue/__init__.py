"""The models that the router may use: from YAML to one consistent snapshot."""
