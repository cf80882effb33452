"""Readers of pretrained parts that packages carry: image backbones and sentence encoders, to be joined."""
