"""Image files found in practice: any format, color profile, bit depth or damage, or no image at all."""
