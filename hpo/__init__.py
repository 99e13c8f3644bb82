"""Hyperparameter optimization for Keras image models, built on Optuna and PostgreSQL."""
