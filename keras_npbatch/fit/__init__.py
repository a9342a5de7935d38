"""What Keras asks for, and what it is given."""
