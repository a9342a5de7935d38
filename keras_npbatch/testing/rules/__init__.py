"""What is true of a good dataset: a rule each."""
