"""The options that every benchmark takes."""

from __future__ import annotations

import argparse


def parser(doc: str | None, rounds: int | None = 3) -> argparse.ArgumentParser:
    """`--rounds` and `--quick`; the module's docstring is the help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="repetitions, of which medians are shown")
    made.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    return made
