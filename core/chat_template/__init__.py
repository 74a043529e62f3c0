"""The chat templates of GGUF files: Jinja that strangers wrote, rendered in a sandbox."""
