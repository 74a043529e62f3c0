"""`minigpt4 models`: list, show, pull, import, export, quantize and more."""
