"""What the whole service is about: records, their limits and forms. Pure."""
