"""Image files as people have them: any format, color profile, bit depth or damage, or no image at all."""
