"""TFRecord shards, datasets, batches, and one dataset per client."""
