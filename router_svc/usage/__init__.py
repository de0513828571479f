"""What was used of models, and what it cost."""
