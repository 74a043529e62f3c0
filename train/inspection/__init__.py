"""A look through a data set before training: sizes, duplicates, captions, a contact sheet."""
