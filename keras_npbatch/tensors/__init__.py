"""Batches in each framework's terms."""
