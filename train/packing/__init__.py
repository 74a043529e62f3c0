"""Packed sequences with shared prefixes, their attention and their loss."""
