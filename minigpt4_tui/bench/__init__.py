"""`minigpt4 bench`: a bundle's speed and memory on this machine, compared with the machine's limits."""
