"""Predictions of a retrained model for new images and arrays."""
