"""Executors: when and where batches are computed, never what is in them."""
