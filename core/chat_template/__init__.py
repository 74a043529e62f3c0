"""The chat templates of GGUF files: untrusted Jinja, rendered in a sandbox."""
