"""The inference library: from image files to generated text, without a user interface."""
