"""Reports of runs, from their folders alone: tables, differences, Markdown, JSON and an HTML page."""
