"""A pool of worker processes, whatever the system: the same on Linux as elsewhere."""
