"""What each pruner costs and finds in a search of many trials: `python -m bench.pruners [--rounds 3]`.

The same `hpo launch` on a part of MNIST with each pruner, two workers; a round is a seed. Counted are epochs, not
seconds: they do not depend on what else the machine does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.options import parser
from bench.place import Place
from bench.report import Report, Row, spread
from hpo.options import PRUNERS


@dataclass(frozen=True)
class Searched:
    """One search."""

    seed: int
    best: float
    """Validation accuracy of the best complete trial."""
    complete: int
    epochs: int
    """Trained by all trials together."""


def search(pruner: str, seed: int, trials: int, limit: int, epochs: int) -> Searched:
    """`hpo launch` in a place of its own."""
    with Place() as place:
        arguments = ["-m", "hpo.cli", "launch", "--study", "s", "--objective", "mnist-cnn", "--workers", 2]
        arguments += ["--trials", trials, "--limit", limit, "--epochs", epochs]
        arguments += ["--pruner", pruner, "--seed", seed]
        place.run(*arguments)
        done = place.rows(
            "SELECT max(value) AS best, count(*) AS n FROM hpo.trials WHERE outcome = 'complete'"
        )[0]
        trained = place.rows("SELECT count(*) FROM hpo.epochs")[0][0]
    return Searched(seed, done.best, done.n, trained)


def main() -> None:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--trials", type=int, default=120)
    arguments.add_argument("--limit", type=int, default=2_000, help="training images")
    arguments.add_argument("--epochs", type=int, default=9)
    arguments.add_argument("--pruners", default="none,median,asha,hyperband", help=", ".join(PRUNERS))
    options = arguments.parse_args()
    if options.quick:
        options.trials, options.limit, options.epochs = 4, 500, 2
    report = Report("pruners", "What each pruner costs and finds", options.quick)
    report.note(
        f"`hpo launch --study s --objective mnist-cnn --workers 2 --trials {options.trials} --limit {options.limit} "
        f"--epochs {options.epochs} --pruner P --seed S`.",
        "Median of seeds, with the lowest and the highest.",
    )
    found: dict[str, list[Searched]] = {}
    for seed in range(options.rounds):
        for pruner in options.pruners.split(","):
            one = search(pruner, seed, options.trials, options.limit, options.epochs)
            print(pruner, one, flush=True)
            found.setdefault(pruner, []).append(one)
            report.table(f"{options.trials} trials of at most {options.epochs} epochs", _rows(found))
            report.raw = {name: [asdict(each) for each in all_] for name, all_ in found.items()}
            report.keep()
    report.write()


def _rows(found: dict[str, list[Searched]]) -> list[Row]:
    return [
        {
            "pruner": pruner,
            "epochs trained": spread([run.epochs for run in runs], 0),
            "complete trials": spread([run.complete for run in runs], 0),
            "best validation accuracy": spread([run.best for run in runs], 4),
            "n": len(runs),
        }
        for pruner, runs in found.items()
    ]


if __name__ == "__main__":
    main()
