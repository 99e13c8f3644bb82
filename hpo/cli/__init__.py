"""The command `hpo`: each command parses, calls one function, prints."""

import sys

try:
    from hpo.cli.main import main
except KeyboardInterrupt:
    # Ctrl-C during the import ends the command as quietly as later.
    sys.exit(130)

__all__ = ["main"]
