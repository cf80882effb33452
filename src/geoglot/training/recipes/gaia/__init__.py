"""GAIA: the recipe, captions that say left and right, and weights between two models."""
