"""Retraining of the best configuration over several seeds."""
