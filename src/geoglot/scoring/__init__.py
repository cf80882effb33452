"""Vectors to scores, scores to maps: plain NumPy that search, localization, segmentation and heat share."""
