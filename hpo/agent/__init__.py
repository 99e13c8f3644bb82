"""The agent: the one process of a host that talks to the database."""
