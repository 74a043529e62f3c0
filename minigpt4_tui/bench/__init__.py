"""`minigpt4 bench`: what a bundle takes on this machine, beside what the machine could do."""
