"""The callback that reports which batch made the loss NaN."""
