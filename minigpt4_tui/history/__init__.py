"""Conversations on disk: the SQLite store, search, export and import."""
