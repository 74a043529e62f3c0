"""Captions for many pictures: find them, describe each, write the captions, and resume after a stop."""
