"""What a task's owner can have done: accepting, reading, steering, watching."""
