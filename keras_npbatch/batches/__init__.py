"""How one batch is made. No Keras here: a worker process has this and no more."""
