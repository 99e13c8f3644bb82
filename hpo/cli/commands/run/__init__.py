"""Commands that run a study or change its state."""
