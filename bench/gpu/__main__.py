"""All measurements on a GPU, one after the other until the time is over: see `run.sh`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

from bench.gpu import parts
from bench.gpu.parts import Bench
from bench.gpu.sizes import Sizes
from bench.report import Report
from bench.sandbox import Sandbox

OUTPUT = Path(".bench/gpu")


def main() -> int:
    """Run the parts, write after each measurement, and return 1 if a part failed."""
    options = _options()
    report = Report("gpu", "Measurements on a GPU", quick=options.rehearse)
    # Written at the end of a run that is cut off, too.
    report.keep(options.output)
    failed = False
    with Sandbox() as sandbox, tempfile.TemporaryDirectory() as compiled:
        # Processes of one shape compile it once.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
        if options.rehearse:
            os.environ["JAX_PLATFORMS"] = "cpu"
        bench = Bench(
            sandbox=sandbox,
            report=report,
            output=options.output,
            sizes=Sizes.small() if options.rehearse else Sizes(),
            seconds=options.seconds,
        )
        for name in options.parts:
            try:
                bench.run(name)
            # A part that fails costs its own figures only.
            except Exception as error:  # noqa: BLE001
                failed = True
                traceback.print_exc()
                report.note(f"{name}: failed ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
            bench.goals()
            report.keep(options.output)
    report.write(options.output)
    return int(failed)


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(prog="bench/gpu/run.sh", description=__doc__)
    made.add_argument("--output", type=Path, default=OUTPUT, help="folder of gpu.json and gpu.md")
    made.add_argument("--rehearse", action="store_true", help="in small, on the processor")
    made.add_argument("--seconds", type=float, default=450.0, help="time for all parts together")
    made.add_argument(
        "--parts",
        type=_names,
        default=list(parts.PARTS),
        help=f"some of {','.join(parts.PARTS)}, in this order",
    )
    return made.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in parts.PARTS]:
        raise argparse.ArgumentTypeError(f"unknown part {unknown[0]} (use {', '.join(parts.PARTS)})")
    return names


if __name__ == "__main__":
    sys.exit(main())
