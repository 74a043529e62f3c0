"""The measurements: captions against people's captions, subjects named, long answers that fail."""
