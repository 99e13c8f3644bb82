"""The whole job, from the command to its end: 48 trials of up to 3 epochs of a CNN on 10,000 images of MNIST.

    HPO_DATA_DIR=data python -m bench.whole_job [--rounds 3] [--contestants hpo,optuna,kerastuner,ray]

The service against two processes of plain Optuna with `model.fit`, KerasTuner and Ray Tune (from the
`bench` extra; missing ones are skipped). Contestants alternate in rounds, so that a slow minute of the
machine affects all. Slow ones can have fewer rounds (`--contestants hpo,optuna,kerastuner:2,ray:2`). The peers run with
default settings, or with a documented setting: `--contestants hpo,optuna-1-thread,ray-reused --tuned`.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from bench.contestants import (
    CHOICES,
    KEYS,
    NOTES,
    SERVICE,
    Job,
    Outcome,
    in_turn,
    parse_contestants,
    quick_variables,
)
from bench.jobs import mnist_job
from bench.options import parser
from bench.report import Report, Row, median, spread


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=48)
    arguments.add_argument("--contestants", default=",".join(KEYS), type=parse_contestants, help=CHOICES)
    arguments.add_argument("--tuned", action="store_true", help="write results to a separate file")
    options = arguments.parse_args()
    job = Job(objective="MnistPart", trials=options.trials, epochs=3)
    if options.quick:
        job = replace(job, trials=4, epochs=2, variables=quick_variables(), limit_seconds=300.0)
    if not options.quick:
        mnist_job.fetch()
    name = "whole_job-tuned" if options.tuned else "whole_job"
    report = Report(name, f"The whole job: {job.trials} trials, two at a time", quick=options.quick)
    report.note(
        *NOTES,
        "Faster: time of the row divided by that of `hpo launch` in the same round, median of the rounds.",
    )
    found: dict[str, list[Outcome]] = {}
    for round_number in range(options.rounds):
        for contestant in in_turn(options.contestants, round_number):
            outcome = contestant.run(replace(job, seed=round_number))
            found.setdefault(contestant.name, []).append(outcome)
            print(contestant.name, outcome, flush=True)
            report.table("From the command to the end", _rows(found))
            report.raw[contestant.name] = [asdict(one) for one in found[contestant.name]]
            report.keep()
    report.write()


def _rows(found: dict[str, list[Outcome]]) -> list[Row]:
    ours = found.get(SERVICE.name, [])
    rows: list[Row] = []
    for name, outcomes in found.items():
        seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        best = [outcome.best for outcome in outcomes if outcome.best is not None]
        problems = sorted({outcome.problem for outcome in outcomes if outcome.problem})
        rows.append(
            {
                "contestant": name,
                "seconds": spread(seconds),
                "hpo is faster by": spread(
                    [
                        theirs.seconds / mine.seconds
                        for theirs, mine in zip(outcomes, ours, strict=False)
                        if theirs.seconds is not None and mine.seconds is not None
                    ],
                    2,
                ),
                "best validation accuracy": spread(best, 4),
                "trials": median([outcome.trials for outcome in outcomes]),
                "epochs": median([outcome.epochs for outcome in outcomes]),
                "CPU seconds": median([outcome.cpu_seconds for outcome in outcomes]),
                "n": len(seconds),
                "problem": "; ".join(problems),
            }
        )
    return rows


if __name__ == "__main__":
    main()
