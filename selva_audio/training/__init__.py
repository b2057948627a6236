"""Fine-tuning: one loop, what it can train, and what is done to the result."""
