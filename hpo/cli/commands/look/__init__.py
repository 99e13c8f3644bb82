"""Commands that list and show studies, trials, logs and objectives."""
