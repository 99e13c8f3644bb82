"""Selection among a study's best configurations: each is trained from new seeds and compared on validation data.

The best of many trials is partly the luckiest. So the leading ones are trained again from new seeds on the trials'
training data, and the mean of the study's metric on validation examples decides. The test set is not loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.analysis.figures import bounds_of
from hpo.analysis.statistics import Interval, mean, shown_deviation, summarize
from hpo.export.config import Config
from hpo.files.atomic import atomic_write
from hpo.options.hosts import AgentOptions
from hpo.process.signals import SignalHandler
from hpo.retrain.results import judged_report
from hpo.retrain.runner import RetrainFailedError, SeedRun, SeedRunner
from hpo.terminal.progress import Progress
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.pool import TrainerPool

FIRST_SEED = 4_000_000_000
"""First seed of candidates, which share no seed with trials or final runs."""


@dataclass(frozen=True)
class Candidate:
    """One of the best configurations, with its results from new seeds."""

    config: Config
    values: tuple[float, ...]
    """Value of each seed's run on validation examples, by the study's rule, where it did not fail."""
    seconds: float
    failure: str | None = None
    """Reason why a run ended without a value: a configuration that may fail is not chosen."""

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None if a run failed."""
        return None if self.failure else mean(self.values)


@dataclass(frozen=True)
class Selection:
    """Candidates, best search value first, and the chosen one."""

    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    chosen: int
    """Index of the winner."""
    top: int
    """Number of the search's best configurations that were asked for; the default one competes with them."""

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
            "candidates": [
                {
                    "trial": candidate.config.trial,
                    "params": dict(candidate.config.params),
                    "search_value": candidate.config.value,
                    "values": list(candidate.values),
                    **(self._summary(candidate).to_json() if candidate.values else {}),
                    "seconds": round(candidate.seconds, 2),
                    "failure": candidate.failure,
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
    seed_count: int,
    top: int,
    folder: Path,
    logs: Path,
    pool: TrainerPool,
    progress: Progress,
    signals: SignalHandler,
    options: AgentOptions,
) -> Selection | None:
    """Train each of `configs` from `seed_count` seeds and choose; return None if interrupted.

    The same call with the same `folder` resumes.
    """
    seeds = tuple(FIRST_SEED + index for index in range(seed_count))
    runs = {
        index: [
            SeedRun(
                name=f"{named(config.trial)}, seed {seed},",
                config=config,
                seed=seed,
                folder=CheckpointFolder(folder / f"{_file_name(config)}-seed-{seed}"),
                log=logs / f"retrain-{_file_name(config)}-seed-{seed}.log",
            )
            for seed in seeds
        ]
        for index, config in enumerate(configs)
    }
    every = [run for of_config in runs.values() for run in of_config]
    if not SeedRunner(f"retrain: {len(configs)} candidates", every, pool, progress, signals, options).run():
        return None
    candidates = tuple(_candidate_of(config, runs[index]) for index, config in enumerate(configs))
    return Selection(seeds, candidates, choose(candidates, configs[0].direction == "maximize"), top)


def read_selection(folder: Path, configs: Sequence[Config], seed_count: int) -> Selection | None:
    """Return the selection that `write_selection` wrote for these candidates and seeds, or None."""
    try:
        kept = json.loads((folder / "selection.json").read_text())
        seeds = tuple(kept["seeds"])
        if len(seeds) != seed_count or len(kept["candidates"]) != len(configs):
            return None
        candidates = tuple(
            Candidate(config, tuple(one["values"]), one["seconds"], one["failure"])
            for config, one in zip(configs, kept["candidates"], strict=True)
        )
        chosen = [one["chosen"] for one in kept["candidates"]].index(True)
        return Selection(seeds, candidates, chosen, kept.get("top", len(candidates)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_selection(folder: Path, selection: Selection) -> None:
    """Store the choice, so that an interrupted retrain resumes with it."""
    with atomic_write(folder / "selection.json") as partial:
        partial.write_text(json.dumps(formatting.json_safe(selection.to_json())))


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
        lines.append(
            f"{named(candidate['trial'])}: {shown}{searched}{', chosen' if candidate['chosen'] else ''}"
        )
    return lines


def named(trial: int | None) -> str:
    """Return the name of a candidate; one without a complete trial is the default configuration."""
    return "default configuration" if trial is None else f"trial {trial}"


def _file_name(config: Config) -> str:
    return "default" if config.trial is None else f"trial-{config.trial}"


def _candidate_of(config: Config, runs: Sequence[SeedRun]) -> Candidate:
    values, failures = [], [run.failure for run in runs if run.failure]
    for run in runs:
        found = judged_report(config, run.history) if run.result else None
        if found is not None and math.isfinite(found.value):
            values.append(found.value)
    if not failures and len(values) < len(runs):
        when = " after its last epoch" if config.value_rule == "last" else ""
        failures = [f"recorded no finite {config.metric}{when}"]
    seconds = sum(record.seconds for run in runs for record in run.history)
    return Candidate(config, tuple(values), seconds, failures[0] if failures else None)
