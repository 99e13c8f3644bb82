"""Connections to PostgreSQL: their URL, watchdog and retries."""
