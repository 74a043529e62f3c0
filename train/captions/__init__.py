"""Captions as text: cleaning, parsing, and rule-based paragraphs, questions and answers."""
