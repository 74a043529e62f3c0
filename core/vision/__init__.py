"""Vision towers: pixels (B, 3, H, W) to feature vectors (B, N, D)."""
