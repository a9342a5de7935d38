"""Worker processes, and the shared memory in which their batches travel."""
