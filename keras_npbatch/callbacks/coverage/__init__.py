"""Which samples each epoch was trained on."""
