"""What drove the score of one event, and what would have changed it."""
