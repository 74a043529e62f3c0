"""Files of the program on disk: where they are, atomic writes, locks, TOML into dataclasses."""
