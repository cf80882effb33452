"""Pretrained parts that a dual encoder can be joined from."""
