"""Inspection of data sets before training: sizes, duplicates, caption lengths, a contact sheet."""
