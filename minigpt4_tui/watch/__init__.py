"""`minigpt4 train --watch RUN`: a screen that follows training runs by what they write into their folders."""
