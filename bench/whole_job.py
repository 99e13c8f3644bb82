"""The whole job, from the command to its end: 48 trials of up to 3 epochs of a CNN on 10,000 images of MNIST.

    HPO_DATA_DIR=data python -m bench.whole_job [--rounds 3] [--contestants hpo,optuna,kerastuner,ray]

The service against two processes of plain Optuna with `model.fit`, KerasTuner and Ray Tune (from the
`bench` extra: one that is missing is left out). Contestants alternate in rounds, so that a slow minute of the
machine hits all; the peers run as they come and, in the first round, with one thread a process too. KerasTuner
and Ray Tune take longest, and may be given fewer rounds (`--rounds-of-slow`).
"""

from __future__ import annotations

from dataclasses import asdict, replace

from bench import mnist_job
from bench.contestants import KEYS, NOTES, ONE_THREAD, SERVICE, Job, Outcome, chosen, quick_variables
from bench.options import parser
from bench.report import Report, Row, median, ratio, spread

SLOW = ("keras_tuner", "ray")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=48)
    arguments.add_argument("--contestants", default=",".join(KEYS))
    arguments.add_argument("--one-thread-rounds", type=int, default=1)
    arguments.add_argument("--rounds-of-slow", type=int, help="of KerasTuner and Ray Tune")
    options = arguments.parse_args()
    job = Job("MnistPart", options.trials, epochs=3)
    if options.quick:
        job = replace(job, trials=4, epochs=2, variables=quick_variables(), limit_seconds=300.0)
    if not options.quick:
        mnist_job.fetch()
    report = Report("whole_job", f"The whole job: {job.trials} trials, two at a time", options.quick)
    report.note(*NOTES, "Faster: median time of the row over that of `hpo launch`.")
    found: dict[tuple[str, str], list[Outcome]] = {}
    for round_number in range(options.rounds):
        contestants = chosen(options.contestants)
        if options.rounds_of_slow is not None and round_number >= options.rounds_of_slow:
            contestants = [contestant for contestant in contestants if contestant.package not in SLOW]
        turn = round_number % len(contestants)
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            variants = {"default": job.variables}
            if contestant is not SERVICE and round_number < options.one_thread_rounds:
                variants["1 thread"] = {**job.variables, **ONE_THREAD}
            for variant, variables in variants.items():
                outcome = contestant.run(replace(job, seed=round_number, variables=variables))
                found.setdefault((contestant.name, variant), []).append(outcome)
                print(contestant.name, variant, outcome, flush=True)
                report.table("From the command to the end", _rows(found))
                report.raw[f"{contestant.name}, {variant}"] = [
                    asdict(one) for one in found[contestant.name, variant]
                ]
                report.keep()
    report.write()


def _rows(found: dict[tuple[str, str], list[Outcome]]) -> list[Row]:
    ours = median([o.seconds for o in found.get((SERVICE.name, "default"), []) if o.seconds is not None])
    rows: list[Row] = []
    for (name, variant), outcomes in found.items():
        seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        best = [outcome.best for outcome in outcomes if outcome.best is not None]
        problems = sorted({outcome.problem for outcome in outcomes if outcome.problem})
        rows.append(
            {
                "contestant": name,
                "threads": variant,
                "seconds": spread(seconds),
                "hpo is faster by": ratio(median(seconds), ours),
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
