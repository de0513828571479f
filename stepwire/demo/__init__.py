"""The demonstration: the Python language reference, read, asked and cited."""
