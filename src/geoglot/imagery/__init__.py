"""Pixels of scenes, and where on the earth they lie."""
