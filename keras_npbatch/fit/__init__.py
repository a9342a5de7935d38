"""Serves the calls of Keras: what each asks for, and what it is given."""
