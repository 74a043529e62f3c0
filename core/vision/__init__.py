"""Vision towers: pixels (B, 3, H, W) to features (B, N, D), and the encoder around them."""
