"""Metrics: captions against references, subjects named, fluency of long answers."""
