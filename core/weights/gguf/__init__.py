"""GGUF files: header, writer, and conversion from and to Hugging Face folders."""
