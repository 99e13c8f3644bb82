"""Connections to PostgreSQL: their URL, engine, watchdog and retries."""
