"""One training method per file, or per folder where the method has parts of its own."""
