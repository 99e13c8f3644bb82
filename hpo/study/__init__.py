"""A study in the database: its definition, results, monitoring and history, and changes to it."""
