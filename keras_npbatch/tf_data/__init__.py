"""A dataset as a `tf.data.Dataset`."""
