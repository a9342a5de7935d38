"""Training that goes on where it was interrupted."""
