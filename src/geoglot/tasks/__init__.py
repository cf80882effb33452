"""Tasks: everything that can be done with an archive beyond searching."""
