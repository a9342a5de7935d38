"""Which batch made the loss NaN."""
