"""The report of an experiment (`hpo ablate`)."""
