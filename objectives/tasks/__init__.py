"""Tasks: the kinds of targets, each with its loss, its metrics and the records of a final run."""
