"""Commands for the operation of a service: tables, health, backups."""
