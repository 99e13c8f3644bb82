"""The job, written as a user of plain Optuna, KerasTuner or Ray Tune would write it."""
