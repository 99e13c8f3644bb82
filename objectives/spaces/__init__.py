"""Spaces of parameters, as objectives declare them and as studies store them."""
