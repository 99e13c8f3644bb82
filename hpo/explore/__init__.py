"""`hpo data explore`: what a data set holds, before anything is trained on it."""
