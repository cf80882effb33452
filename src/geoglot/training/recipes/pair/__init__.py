"""Recipe `pair`: a pretrained image backbone and a frozen text encoder, joined."""
