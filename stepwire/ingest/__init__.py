"""Documents into a collection, and questions answered from it: as graphs of steps."""
