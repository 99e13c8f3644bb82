"""Checkpoints of trials, in files that are complete or absent."""
