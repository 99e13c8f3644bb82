"""Optuna's own tables and storage."""
