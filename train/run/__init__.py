"""A run's folder: settings, checkpoints, the JSONL log and TensorBoard."""
