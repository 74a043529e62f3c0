"""The parts that the app's screens are made of, one a file."""
