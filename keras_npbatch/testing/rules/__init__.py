"""The rules: what is true of a good dataset."""
