"""`hpo ablate`: an experiment that measures what each hyperparameter is worth."""
