"""Image-text samples, regions, masks and benchmark sets."""
