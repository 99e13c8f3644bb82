"""Code written for Optuna or KerasTuner as objectives: it runs unchanged."""
