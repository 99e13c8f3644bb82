"""Trials of a study and their values, as rows that tables, files and reports share."""
