"""The Textual application: start, shutdown, screens, themes."""
