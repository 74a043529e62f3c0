"""What the app knows about bundles, and downloads in the background."""
