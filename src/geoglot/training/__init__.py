"""Training of dual encoders: one loop, and recipes."""
