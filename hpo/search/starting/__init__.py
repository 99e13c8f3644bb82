"""Configurations that a search starts from: known good ones, and those of earlier studies."""
