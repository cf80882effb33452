"""Open-vocabulary segmentation: words to class maps."""
