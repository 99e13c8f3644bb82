"""Keras' own `model.fit` within a run: reported, pruned, and resumed from the epoch after the last one."""
