"""Run all benchmarks, each in its own process: `python -m bench [--rounds N] [--only NAMES] [--quick]`.

Without `--rounds`, each benchmark uses its own default. A round takes hours on two cores, most of them for the
peers; run nothing else on the machine.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

from bench.jobs import mnist_job
from bench.options import parser

SUITE = (
    "overhead",
    "own_code",
    "scale",
    "memory",
    "training",
    "folders",
    "photos",
    "whole_job",
    "time_to_target",
    "start",
    "search",
)


def main() -> None:
    arguments = parser(__doc__, rounds=None)
    arguments.add_argument("--only", default=",".join(SUITE), help="names, separated by commas")
    options = arguments.parse_args()
    missing = [name for name in ("keras_tuner", "ray") if find_spec(name) is None]
    if missing:
        print(
            f"{', '.join(missing)} not installed: run pip install 'hpo-service[bench]' to compare with them"
        )
    failed = []
    if not options.quick:
        mnist_job.fetch()
    for name in options.only.split(","):
        command = [sys.executable, "-m", f"bench.{name}"]
        command += ["--rounds", str(options.rounds)] if options.rounds is not None else []
        command += ["--quick"] if options.quick else []
        print(f"== {name}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
