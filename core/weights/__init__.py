"""Weight files: reading, writing and converting PyTorch, safetensors and GGUF."""
