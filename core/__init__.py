"""From pixels to words: everything that runs a model, usable as a library without a screen."""
