"""Public benchmark sets in the layouts they come in: which there are (catalogue), how each is read (layouts)."""
