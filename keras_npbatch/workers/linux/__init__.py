"""Worker processes on Linux: a fork server, pidfds, and shared memory that has no name."""
