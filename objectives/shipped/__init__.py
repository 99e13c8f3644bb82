"""The shipped objectives."""
