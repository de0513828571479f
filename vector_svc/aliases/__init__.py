"""Second names of collections."""
