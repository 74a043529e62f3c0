"""Scores of answers against captions: CIDEr-D, BLEU, subject rate, and failures in form."""
