"""`minigpt4 chat`: the app, or a plain line-by-line chat."""
