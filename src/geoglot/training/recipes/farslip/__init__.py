"""FarSLIP: the recipe and what only it does to parts of images."""
