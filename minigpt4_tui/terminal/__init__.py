"""Plain terminal output: sanitized text, ANSI colours, messages on stderr, results on stdout."""
