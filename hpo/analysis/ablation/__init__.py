"""Effects that an experiment has measured (`hpo ablate`), and the verdict on each parameter."""
