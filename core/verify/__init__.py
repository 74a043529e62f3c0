"""Checks of a bundle: complete files, right contents, parts that fit each other."""
