"""Read models of a study in the database, and the commands that change one."""
