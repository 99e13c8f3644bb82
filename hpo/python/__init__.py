"""The service from Python: `hpo.launch` and `hpo.load_study`, in scripts and notebooks."""
