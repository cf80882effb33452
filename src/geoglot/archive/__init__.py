"""The archive: scenes into vectors, and questions about them."""
