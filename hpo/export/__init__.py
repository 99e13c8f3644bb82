"""Export of the best configuration."""
