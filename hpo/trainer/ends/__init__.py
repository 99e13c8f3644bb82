"""How a trainer and its attempt end."""
