"""Choosing image-text pairs from published caption lists and downloading them."""
