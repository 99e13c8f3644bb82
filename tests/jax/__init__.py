"""Tests that need JAX; `make test-jax` installs it."""
