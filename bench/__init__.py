"""Measured comparisons, each run by one command: `python -m bench.<name>`."""
