"""What may be spent: budgets, and what is held for calls under way."""
