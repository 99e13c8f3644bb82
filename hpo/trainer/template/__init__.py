"""The process from which trainers are forked, and its start, watch and replacement by the agent."""
