"""Checks of a bundle: complete files, correct contents, parts that fit each other."""
