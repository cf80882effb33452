"""What can be done with an archive beyond searching."""
