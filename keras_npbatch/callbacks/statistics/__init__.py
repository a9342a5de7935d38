"""The callback that computes statistics of the batches that training has seen."""
