"""Options of every benchmark."""

from __future__ import annotations

import argparse


def parser(doc: str | None, rounds: int | None = 3) -> argparse.ArgumentParser:
    """Return a parser with `--rounds` and `--quick`; `doc`, the module's docstring, is the help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="number of repetitions; results are medians")
    made.add_argument("--quick", action="store_true", help="smoke run with toy sizes")
    return made
