"""Bundles: which files make up a model, read from TOML manifests."""
