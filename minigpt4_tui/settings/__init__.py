"""Settings and key bindings: their fields, the file, the environment."""
