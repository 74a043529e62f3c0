"""`minigpt4 train --watch RUN`: a screen that follows training runs through their log files."""
