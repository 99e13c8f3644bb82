"""Selection among a study's best configurations: each is trained from new seeds and compared on validation data.

The best of many trials is partly the luckiest. So the leading ones are trained again from new seeds on the trials'
training data, and the mean of the study's metric on validation examples decides. The test set is not loaded.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.analysis.figures import bounds_of
from hpo.analysis.statistics import Interval, mean, summarize
from hpo.export.config import Config
from hpo.files.atomic import atomic_write
from hpo.options.retrain_request import RetrainRequest
from hpo.process.signals import SignalHandler
from hpo.retrain.race import Race, value_of
from hpo.retrain.racing import Drop
from hpo.retrain.runner import SeedRunner
from hpo.retrain.seed_run import RetrainFailedError, SeedRun
from hpo.retrain.selection_text import named
from hpo.study.monitoring.retrain_progress import CHOSEN
from hpo.terminal.progress import Progress
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
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
    race = Race(configs, runs, control, folder, drops=request.racing)
    # Seed by seed, so that candidates are compared as early as possible.
    every = [run for of_seed in zip(*runs, strict=True) for run in of_seed]
    title = f"retrain: {len(configs)} candidates"
    if not SeedRunner(title, every, pool, progress, signals, request.agent, needs=race).run():
        return None
    standing = race.standing
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


def read_selection(
    folder: Path, configs: Sequence[Config], seed_count: int, *, racing: bool
) -> Selection | None:
    """Return the selection that `write_selection` wrote for these candidates, seeds and racing, or None."""
    try:
        kept = json.loads((folder / CHOSEN).read_text())
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
    with atomic_write(folder / CHOSEN) as partial:
        partial.write_text(json.dumps(formatting.json_safe(selection.to_json())))


def _file_name(config: Config) -> str:
    return "default" if config.trial is None else f"trial-{config.trial}"


def _candidate_of(
    config: Config, counted: Sequence[SeedRun], seconds: float, drop: Drop | None = None
) -> Candidate:
    failures = [run.failure for run in counted if run.failure]
    found = [value for run in counted if (value := value_of(config, run)) is not None]
    values = tuple(value for value in found if math.isfinite(value))
    if not failures and len(values) < len(found):
        when = " after its last epoch" if config.value_rule == "last" else ""
        failures = [f"recorded no finite {config.metric}{when}"]
    return Candidate(config, values, seconds, failures[0] if failures else None, drop)
