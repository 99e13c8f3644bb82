"""The command `hpo`: parses, calls one function, prints."""

from hpo.cli.main import main

__all__ = ["main"]
