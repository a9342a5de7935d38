"""Batches as tensors of each framework."""
