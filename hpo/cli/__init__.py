"""The command `hpo`: parses, calls one function, prints."""

import sys

try:
    from hpo.cli.main import main
except KeyboardInterrupt:
    # Ctrl-C while the command is still being imported ends it as quietly as later.
    sys.exit(130)

__all__ = ["main"]
