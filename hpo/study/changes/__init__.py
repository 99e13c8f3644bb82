"""Changes to an existing study, one command each."""
