"""The dataset under examination, and what was seen of it."""
