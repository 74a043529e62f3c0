"""`minigpt4 data`: inspect and prepare data sets."""
