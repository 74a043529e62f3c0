"""Features of the frozen tower, computed once and cached on disk."""
