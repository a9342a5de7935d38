"""When and where batches are made: by the consumer, in threads, or in processes."""
