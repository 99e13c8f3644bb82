"""How processes of the service start, stop and are identified."""
