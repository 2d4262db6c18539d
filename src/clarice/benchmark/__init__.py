"""The published protocols, each a command that prints a table."""
