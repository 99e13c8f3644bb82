"""A study while it runs: its status, heartbeats, spent time and logs."""
