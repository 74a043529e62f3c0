"""Screens in which a person goes through pictures and texts with one key each: judging and curating."""
