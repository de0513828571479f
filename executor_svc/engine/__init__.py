"""What follows from what: plain values, decisions, and what they need of the world. Pure."""
