"""Effects that an experiment has measured (`hpo ablate`), and what they mean for each parameter."""
