"""Named prompts: `/describe`, `/poem` and others, one TOML file each; the user's own replace ours."""
