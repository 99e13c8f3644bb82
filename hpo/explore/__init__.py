"""`hpo data explore`: the content of a data set and common problems in it."""
