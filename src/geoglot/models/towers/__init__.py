"""Image and text towers in PyTorch, their shapes as plain values, and how pixels reach them."""
