"""Images per second of 1, 2, 4, … lanes of an objective's first configuration, and of one trial alone.

    KERAS_BACKEND=jax HPO_DATA_DIR=data python -m bench.lanes --objective mnist-cnn --widths 1,2,4,8 --rounds 3

All lanes have a batch in each step, so this is what the program can do, without validation and without trials that end.
A round measures all of them in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence

from hpo.devices.provenance import hardware
from objectives import backend, loader
from objectives.base import DataOptions, Objective
from objectives.device import Device
from objectives.local_run import LocalRun

LIMIT = 4000
"""Number of training images."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objective", default="digits-cnn")
    parser.add_argument("--widths", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu", help="its number; a processor without it")
    options = parser.parse_args(arguments)
    device = Device() if options.gpu is None else Device(f"gpu:{options.gpu}", gpu=options.gpu)
    widths = [int(width) for width in options.widths.split(",")]
    backend.before_import()
    objective = loader.load(options.objective)()
    objective.prepare(DataOptions(os.environ.get("HPO_DATA_DIR"), LIMIT), final=False)
    backend.configure(device, 0)
    print(f"{options.objective} on {hardware()}, {backend.precision(device)}, {options.rounds} rounds")
    rounds = [dict(_round(objective, device, widths)) for _ in range(options.rounds)]
    print("| | images/s, median | range | of one alone |\n|---|---|---|---|")
    alone = statistics.median(one["alone"] for one in rounds)
    for name in rounds[0]:
        found = [one[name] for one in rounds]
        middle = statistics.median(found)
        print(f"| {name} | {middle:,.0f} | {min(found):,.0f} to {max(found):,.0f} | {middle / alone:.2f} |")


def _round(objective: Objective, device: Device, widths: Sequence[int]) -> Iterator[tuple[str, float]]:
    from objectives.lanes import width

    params = objective.first[0]
    # The first epoch traces and compiles.
    run = LocalRun(total_epochs=3, device=device)
    objective.train(params, run)
    yield "alone", max(one["images_per_second"] for one in run.history)
    probe = width.probed(objective, params, device)
    for lanes in widths:
        yield f"{lanes} lanes", width.measured(probe, lanes).images_per_second


if __name__ == "__main__":
    main()
