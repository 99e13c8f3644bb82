"""The trials of a study as samplers and pruners see them."""
