"""Whether a bundle's files are whole, are what they are called, and fit each other."""
