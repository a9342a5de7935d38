"""What was in the batches that training has seen."""
