"""The Open Inference Protocol over HTTP: JSON as it wants it, and tensors as bytes behind it."""
