"""The callback that measures whether training waits for data."""
