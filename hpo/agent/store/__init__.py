"""Access of an agent to the trials of its study, in our tables and in Optuna's."""
