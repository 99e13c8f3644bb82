"""optuna-dashboard over the service's database, with pictures, reports, a password and read-only mode."""
