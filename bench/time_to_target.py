"""Wall time from the command to the first configuration of 99.0 % on the validation images of all of MNIST.

    HPO_DATA_DIR=data python -m bench.time_to_target [--rounds 3] [--limit-seconds 900] [--add]

The contestants, space and network are those of `bench.whole_job`, with 54,000 training and 6,000 validation images.
The clock stops at the end of the first epoch of any trial that reaches the target, as the contestant's records show.
Each contestant runs without prior knowledge, and beginning with a known good configuration.

Results depend on the luck of the first few configurations, so one round means little, and many rounds of slow
contestants take hours: `--add` adds rounds, of some contestants if you like, to the stored ones.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from itertools import product

from bench.contestants import (
    CHOICES,
    KEYS,
    NOTES,
    SERVICE,
    TUNED,
    Job,
    Outcome,
    in_turn,
    parse_contestants,
    quick_variables,
)
from bench.jobs import mnist_job
from bench.options import parser
from bench.report import RESULTS, Report, Row, median, ratio, spread
from hpo.devices.provenance import hardware

EARLIER = "Earlier rounds:"
FIRST = {False: "the sampler's", True: "known to be good"}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--target", type=float, default=0.99)
    arguments.add_argument("--limit-seconds", type=float, default=900.0)
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--add", action="store_true", help="add rounds to those of bench/results")
    arguments.add_argument("--contestants", default=",".join(KEYS), type=parse_contestants, help=CHOICES)
    options = arguments.parse_args()
    job = Job(
        objective="MnistWhole",
        trials=200,
        epochs=options.epochs,
        target=options.target,
        limit_seconds=options.limit_seconds,
    )
    if options.quick:
        job = replace(job, trials=4, target=0.3, variables=quick_variables(), limit_seconds=120.0)
    if options.quick and options.add:
        arguments.error("--quick and --add exclude each other: leave one out")
    if not options.quick:
        mnist_job.fetch()
    about = {"target": job.target, "epochs": job.epochs, "limit_seconds": job.limit_seconds}
    report = Report(
        "time_to_target", f"Time to {job.target:.1%} on MNIST's validation images", quick=options.quick
    )
    report.note(*NOTES, *_notes(job))
    found: dict[tuple[str, bool], list[Outcome]] = {}
    if options.add:
        earlier = json.loads((RESULTS / "time_to_target.json").read_text())
        if earlier["hardware"] != hardware():
            arguments.error("the stored rounds are from another machine: run without --add")
        if earlier["raw"].get("job") != about:
            arguments.error(
                f"the stored rounds are of {earlier['raw'].get('job')}, not of {about}: run without --add"
            )
        report.raw = earlier["raw"]
        for known_good, one in product(FIRST, (KEYS | TUNED).values()):
            if stored := report.raw.get(_key(one.name, known_good)):
                found[one.name, known_good] = [Outcome(**outcome) for outcome in stored]
        report.note(*(note for note in earlier["notes"] if note.startswith(EARLIER)))
        report.note(f"{EARLIER} commit {earlier['commit']}, {earlier['began']}.")
    report.raw["job"] = about
    title = f"Seconds to the first epoch of at least {job.target:.1%}"
    report.table(title, _rows(found, job.limit_seconds))
    rounds_before = max(map(len, found.values()), default=0)
    for round_number in range(options.rounds):
        for contestant in in_turn(options.contestants, round_number, rounds_before):
            for known_good in FIRST:
                if known_good and not contestant.takes_known_good:
                    continue
                outcomes = found.setdefault((contestant.name, known_good), [])
                outcome = contestant.run(replace(job, seed=len(outcomes), known_good=known_good))
                outcomes.append(outcome)
                print(contestant.name, FIRST[known_good], outcome, flush=True)
                report.table(title, _rows(found, job.limit_seconds))
                report.raw[_key(contestant.name, known_good)] = [asdict(one) for one in outcomes]
                report.keep()
    report.write()


def _notes(job: Job) -> tuple[str, ...]:
    return (
        f"Trials of up to {job.epochs} epochs; limit {job.limit_seconds:.0f} s. Seconds are those of the n rounds"
        " that reached the target; the ratio of medians counts the limit or more for the others.",
        "Images are shifted by up to two pixels, as in `mnist-cnn`, because without it the network stays below 99.0 %."
        " All use the same function, which the peers call from a `keras.utils.PyDataset`.",
        "Known good configuration: Optuna's `enqueue_trial`, Ray's `points_to_evaluate`, the service's `first`;"
        f" KerasTuner's BayesianOptimization has no equivalent. Peers: {mnist_job.KNOWN_GOOD}; the service, whose"
        f" learning rate falls to zero, has a peak of {mnist_job.KNOWN_GOOD_PEAK['learning_rate']}. That and the number"
        " of epochs were chosen in a few runs of the service's loop; nothing was tuned for the peers.",
    )


def _key(contestant: str, known_good: bool) -> str:
    """Return the key in the raw results."""
    return f"{contestant}, {FIRST[known_good]}"


def _rows(found: dict[tuple[str, bool], list[Outcome]], limit_seconds: float) -> list[Row]:
    def middle(name: str, known: bool, late: float) -> float | None:
        """Return the median, with `late` for timeouts and without other failures."""
        all_ = found.get((name, known), [])
        taken = [late if one.out_of_time else one.seconds for one in all_]
        return median([seconds for seconds in taken if seconds])

    def faster(name: str, known: bool) -> str | float | None:
        ours = middle(SERVICE.name, known, math.inf)
        if ours is None or ours == math.inf:
            return None
        at_least = ratio(middle(name, known, limit_seconds), ours)
        return f"over {at_least:.1f}" if middle(name, known, math.inf) == math.inf else at_least

    times = {key: [o.seconds for o in all_ if o.seconds is not None] for key, all_ in found.items()}
    return [
        {
            "contestant": name,
            "first configuration": FIRST[known],
            "seconds": spread(times[name, known]),
            "hpo is faster by": faster(name, known),
            "best validation accuracy": spread([o.best for o in outcomes if o.best is not None], 4),
            "epochs trained": median([outcome.epochs for outcome in outcomes]),
            "n": f"{len(times[name, known])} of {len(outcomes)}",
            "problem": "; ".join(sorted({outcome.problem for outcome in outcomes if outcome.problem})),
        }
        for (name, known), outcomes in found.items()
    ]


if __name__ == "__main__":
    main()
