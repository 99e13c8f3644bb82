"""Tests that need a GPU, or JAX: `make test-gpu`; by default they are deselected."""
