"""The next attempt of a slot."""
