"""What rows are read from."""
