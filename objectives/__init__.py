"""What can be tuned: the contract of an objective and the objectives shipped with the project."""
