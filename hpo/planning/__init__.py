"""The cost of a search before it begins."""
