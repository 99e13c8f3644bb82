"""Results that were added to a study, not trained by it."""
