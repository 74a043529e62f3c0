"""minigpt4: talk about your own pictures with a vision-language model on your machine.

The code lives in the repository's top-level folders; the links beside this file give them
one import name each (`minigpt4.core`, `minigpt4.train`, `minigpt4.themes`, `minigpt4.tui`),
so that nothing called `core` or `train` is ever installed into anybody's environment.
"""

__version__ = "0.1.0"
