"""Commands that serve studies to a browser."""
