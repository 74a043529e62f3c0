"""`minigpt4 train`: options, progress bars and signals."""
