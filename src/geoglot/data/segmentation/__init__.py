"""Dense-mask sets: images with a class for each pixel, read from the layouts they come in, one frame for all."""

from geoglot.data.segmentation.catalogue import open_segmentation
from geoglot.data.segmentation.sets import IGNORED, SegmentationSet

__all__ = ["IGNORED", "SegmentationSet", "open_segmentation"]
