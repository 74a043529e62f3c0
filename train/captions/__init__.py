"""Captions as text: cleaning, parsing, and questions and answers made from them by rule."""
