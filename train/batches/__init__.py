"""From sample indices to batches: order, examples and the loader."""
