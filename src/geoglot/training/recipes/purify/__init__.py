"""CLIP-RS: the recipe, and scores of doubtful captions."""
