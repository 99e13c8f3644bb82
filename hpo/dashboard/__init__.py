"""optuna-dashboard over the service's database, with what it lacks: pictures, reports, a password, a lock."""
