"""`hpo ablate`: an experiment that measures the worth of each hyperparameter."""
