"""Statistics of trials: effects of hyperparameters, intervals, confusion."""
