"""Fakes for tests of an agent, without a database or an Optuna."""
