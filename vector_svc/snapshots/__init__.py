"""Collections as streams of bytes, written and read."""
