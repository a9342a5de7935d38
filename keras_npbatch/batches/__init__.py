"""How one batch is made. No Keras here: a worker process makes batches without it."""
