"""Search with Optuna: spaces, samplers, pruners."""
