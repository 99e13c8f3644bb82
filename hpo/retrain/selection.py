"""Selection among a study's best configurations: each is trained from new seeds and compared on validation data.

The best of many trials is partly the luckiest. So the leading ones are trained again from new seeds on the trials'
training data, and the mean of the study's metric on validation examples decides. The test set is not loaded.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.analysis.figures import bounds_of
from hpo.analysis.statistics import Interval, mean, shown_deviation, summarize
from hpo.export.config import Config
from hpo.files.atomic import atomic_write
from hpo.options.requests import RetrainRequest
from hpo.process.signals import SignalHandler
from hpo.retrain.racing import FAILED, Drop, Standing, standing_of
from hpo.retrain.results import judged_report
from hpo.retrain.runner import Needs, RetrainFailedError, SeedRun, SeedRunner
from hpo.terminal.progress import Progress
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.pool import TrainerPool

log = logging.getLogger(__name__)

FIRST_SEED = 4_000_000_000
"""First seed of candidates, which share no seed with trials or final runs."""


@dataclass(frozen=True)
class Candidate:
    """One of the best configurations, with its results from new seeds."""

    config: Config
    values: tuple[float, ...]
    """Value of each seed's run that counts, on validation examples, by the study's rule, where it did not fail."""
    seconds: float
    failure: str | None = None
    """Reason why a run ended without a value: a configuration that may fail is not chosen."""
    drop: Drop | None = None
    """Its end in the race, before its last seed; None if it was trained from all seeds, or failed."""

    @property
    def mean(self) -> float | None:
        """Mean over all seeds; None if a run failed or was not trained."""
        return None if self.failure or self.drop else mean(self.values)


@dataclass(frozen=True)
class Selection:
    """Candidates, best search value first, and the chosen one."""

    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    chosen: int
    """Index of the winner."""
    top: int
    """Number of the search's best configurations that were asked for; the default one competes with them."""
    racing: bool = True
    """Whether candidates that could not win any more were dropped."""

    @property
    def winner(self) -> Config:
        return self.candidates[self.chosen].config

    def _summary(self, candidate: Candidate) -> Interval:
        return summarize(candidate.values, bounds_of(candidate.config.metric))

    def to_json(self) -> dict[str, Any]:
        """Return the form that metrics.json holds."""
        return {
            "metric": self.winner.metric,
            "compared_on": "validation examples",
            "seeds": list(self.seeds),
            "top": self.top,
            "racing": self.racing,
            "candidates": [
                {
                    "trial": candidate.config.trial,
                    "params": dict(candidate.config.params),
                    "search_value": candidate.config.value,
                    "values": list(candidate.values),
                    **(self._summary(candidate).to_json() if candidate.values else {}),
                    "seconds": round(candidate.seconds, 2),
                    "failure": candidate.failure,
                    "dropped": asdict(candidate.drop) if candidate.drop is not None else None,
                    "chosen": index == self.chosen,
                }
                for index, candidate in enumerate(self.candidates)
            ],
        }


def choose(candidates: Sequence[Candidate], maximize: bool) -> int:
    """Return the index of the candidate with the best mean; equal ones rank by search value.

    Raises:
        RetrainFailedError: a run of every candidate failed.
    """
    sign = 1 if maximize else -1
    ranked = [
        (sign * candidate.mean, -index)
        for index, candidate in enumerate(candidates)
        if candidate.mean is not None
    ]
    if not ranked:
        raise RetrainFailedError(
            f"every candidate failed from a new seed (the best one: {candidates[0].failure}): continue the search,"
            " or give a configuration with --config"
        )
    return -max(ranked)[1]


def select(
    configs: Sequence[Config],
    request: RetrainRequest,
    control: int | None,
    folder: Path,
    logs: Path,
    pool: TrainerPool,
    progress: Progress,
    signals: SignalHandler,
) -> Selection | None:
    """Train each of `configs` from the request's number of seeds and choose; return None if interrupted.

    `control` is the index of the default configuration. The same call with the same `folder` resumes.
    """
    seeds = tuple(FIRST_SEED + index for index in range(request.seeds))
    runs = [
        [
            SeedRun(
                name=f"{named(config.trial)}, seed {seed},",
                config=config,
                seed=seed,
                folder=CheckpointFolder(folder / f"{_file_name(config)}-seed-{seed}"),
                log=logs / f"retrain-{_file_name(config)}-seed-{seed}.log",
            )
            for seed in seeds
        ]
        for config in configs
    ]
    race = Race(configs, runs, control) if request.racing else None
    # Seed by seed, so that candidates are compared as early as possible.
    every = [run for of_seed in zip(*runs, strict=True) for run in of_seed]
    title = f"retrain: {len(configs)} candidates"
    if not SeedRunner(title, every, pool, progress, signals, request.agent, needs=race).run():
        return None
    standing = race.standing if race is not None else Standing()
    candidates = tuple(
        _candidate_of(
            config,
            [run for seed, run in enumerate(runs[index]) if standing.needs(index, seed)],
            sum(record.seconds for run in runs[index] for record in run.history),
            standing.drops.get(index),
        )
        for index, config in enumerate(configs)
    )
    chosen = choose(candidates, configs[0].direction == "maximize")
    return Selection(seeds, candidates, chosen, request.top, request.racing)


class Race(Needs):
    """The runs that the race among candidates needs; it logs each drop."""

    def __init__(
        self, configs: Sequence[Config], runs: Sequence[Sequence[SeedRun]], control: int | None
    ) -> None:
        """`runs` are those of each configuration, in the order of the seeds."""
        self._configs, self._runs, self._control = configs, runs, control
        self._place = {
            id(run): (candidate, seed) for candidate, row in enumerate(runs) for seed, run in enumerate(row)
        }
        self._ended = 0
        self.standing = Standing()

    @property
    def note(self) -> str:
        drops = self.standing.drops
        dropped = (f"{named(self._configs[index].trial)} after {drop.seeds}" for index, drop in drops.items())
        return f"dropped, by seeds trained: {', '.join(dropped)}" if drops else ""

    def includes(self, run: SeedRun) -> bool:
        ended = sum(run.ended for row in self._runs for run in row)
        if ended != self._ended:
            self._ended = ended
            self._judge()
        return self.standing.needs(*self._place[id(run)])

    def _judge(self) -> None:
        values = [
            [_value_of(config, run) for run in row]
            for config, row in zip(self._configs, self._runs, strict=True)
        ]
        before = self.standing.drops
        maximize = self._configs[0].direction == "maximize"
        self.standing = standing_of(values, self._control, maximize=maximize)
        for index, drop in self.standing.drops.items():
            if index not in before:
                shown = drop_text({**asdict(drop), "of": len(self._runs[index])})
                log.info(f"{named(self._configs[index].trial)} is {shown}")
        for index in before.keys() - self.standing.drops.keys():
            log.info(f"{named(self._configs[index].trial)} competes again, because the leader has failed")


def drop_text(drop: Mapping[str, Any]) -> str:
    """Return the end of a candidate in the race."""
    chance = drop["probability"]
    shown = "below 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"
    return f"dropped after {drop['seeds']} of {drop['of']} seeds, because its chance to win was {shown}"


def read_selection(
    folder: Path, configs: Sequence[Config], seed_count: int, *, racing: bool
) -> Selection | None:
    """Return the selection that `write_selection` wrote for these candidates, seeds and racing, or None."""
    try:
        kept = json.loads((folder / "selection.json").read_text())
        seeds = tuple(kept["seeds"])
        # Earlier versions trained all seeds of all candidates, which is the result of either.
        if (
            len(seeds) != seed_count
            or len(kept["candidates"]) != len(configs)
            or kept.get("racing", racing) != racing
        ):
            return None
        candidates = tuple(
            Candidate(
                config,
                tuple(one["values"]),
                one["seconds"],
                one["failure"],
                Drop(**one["dropped"]) if one.get("dropped") else None,
            )
            for config, one in zip(configs, kept["candidates"], strict=True)
        )
        chosen = [one["chosen"] for one in kept["candidates"]].index(True)
        return Selection(seeds, candidates, chosen, kept.get("top", len(candidates)), racing)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_selection(folder: Path, selection: Selection) -> None:
    """Store the choice, so that an interrupted retrain resumes with it."""
    with atomic_write(folder / "selection.json") as partial:
        partial.write_text(json.dumps(formatting.json_safe(selection.to_json())))


def fresh_seeds(selection: Mapping[str, Any]) -> str:
    """Return the number of seeds of each candidate of a selection in metrics.json: `5 fresh seeds`."""
    some = "up to " if any(one.get("dropped") for one in selection["candidates"]) else ""
    return some + formatting.counted(len(selection["seeds"]), "fresh seed")


def selection_lines(selection: Mapping[str, Any]) -> list[str]:
    """Return one line for each candidate of a selection in metrics.json."""
    lines = []
    for candidate in selection["candidates"]:
        spread = candidate.get("standard_deviation")
        shown = candidate["failure"] or f"{formatting.metric(candidate['mean'])}" + (
            f" ± {shown_deviation(float(spread), float(candidate['mean']))}" if spread is not None else ""
        )
        value = candidate["search_value"]
        searched = "" if value is None else f" (in the search {formatting.metric(value)})"
        drop = candidate.get("dropped")
        end = ", chosen" if candidate["chosen"] else ""
        if drop:
            end = f", {drop_text({**drop, 'of': len(selection['seeds'])})}"
        lines.append(f"{named(candidate['trial'])}: {shown}{searched}{end}")
    return lines


def named(trial: int | None) -> str:
    """Return the name of a candidate; one without a complete trial is the default configuration."""
    return "default configuration" if trial is None else f"trial {trial}"


def _file_name(config: Config) -> str:
    return "default" if config.trial is None else f"trial-{config.trial}"


def _candidate_of(
    config: Config, counted: Sequence[SeedRun], seconds: float, drop: Drop | None = None
) -> Candidate:
    failures = [run.failure for run in counted if run.failure]
    found = [value for run in counted if (value := _value_of(config, run)) is not None]
    values = tuple(value for value in found if math.isfinite(value))
    if not failures and len(values) < len(found):
        when = " after its last epoch" if config.value_rule == "last" else ""
        failures = [f"recorded no finite {config.metric}{when}"]
    return Candidate(config, values, seconds, failures[0] if failures else None, drop)


def _value_of(config: Config, run: SeedRun) -> float | None:
    """Return the value of a run, `FAILED` if it ended without one; None if it has not ended."""
    if not run.ended:
        return None
    found = judged_report(config, run.history) if run.result else None
    return found.value if found is not None and math.isfinite(found.value) else FAILED
