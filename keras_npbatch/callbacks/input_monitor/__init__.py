"""Whether training waits for data."""
