"""Metrics and the protocols that use them."""
