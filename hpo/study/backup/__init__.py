"""A study as one portable file."""
