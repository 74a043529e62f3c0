"""Many pictures: encoded ahead of their use, and their answers decoded together."""
