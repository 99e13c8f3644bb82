"""Which of a study's best configurations is really the best: each trained afresh, compared on validation data.

The best of many trials is partly the luckiest. So the leading ones are trained again from fresh seeds, on the
data that trials train on, and the mean of the study's own metric on validation images decides. The
test set is not even loaded meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.analysis.statistics import summarize
from hpo.export.config import Config
from hpo.files.atomic import atomic_write
from hpo.options import AgentOptions
from hpo.process.signals import SignalHandler
from hpo.retrain.runner import RetrainFailedError, SeedRun, SeedRunner
from hpo.terminal.progress import Progress
from hpo.trainer.checkpoints import CheckpointFolder
from hpo.trainer.pool import TrainerPool

FIRST_SEED = 4_000_000_000
"""Seeds of candidates begin here: neither those of trials nor those of final runs."""


@dataclass(frozen=True)
class Candidate:
    """One of the best configurations, and what it showed from fresh seeds."""

    config: Config
    values: tuple[float, ...]
    """The metric on validation images after the last epoch, a seed each; fewer where runs failed."""
    seconds: float
    failure: str | None = None
    """Why a run of it ended without a value: a configuration that may fail is not chosen."""

    @property
    def mean(self) -> float | None:
        """Over seeds; None when a run of it failed."""
        return None if self.failure else math.fsum(self.values) / len(self.values)


@dataclass(frozen=True)
class Selection:
    """The candidates, best search value first, and which of them is retrained."""

    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    chosen: int
    """Index of the winner."""

    @property
    def winner(self) -> Config:
        return self.candidates[self.chosen].config

    def to_json(self) -> dict[str, Any]:
        """As metrics.json holds it."""
        return {
            "metric": self.winner.metric,
            "compared_on": "validation images",
            "seeds": list(self.seeds),
            "candidates": [
                {
                    "trial": candidate.config.trial,
                    "params": dict(candidate.config.params),
                    "search_value": candidate.config.value,
                    "values": list(candidate.values),
                    **(summarize(candidate.values).to_json() if candidate.values else {}),
                    "seconds": round(candidate.seconds, 2),
                    "failure": candidate.failure,
                    "chosen": index == self.chosen,
                }
                for index, candidate in enumerate(self.candidates)
            ],
        }


def choose(candidates: Sequence[Candidate], maximize: bool) -> int:
    """Index of the candidate with the best mean; the better search value of equals.

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
            f"every candidate failed from a fresh seed, the best one because it {candidates[0].failure}:"
            " search on, or give a configuration with --config"
        )
    return -max(ranked)[1]


def select(
    configs: Sequence[Config],
    seed_count: int,
    folder: Path,
    logs: Path,
    pool: TrainerPool,
    progress: Progress,
    interruption: SignalHandler,
    options: AgentOptions,
) -> Selection | None:
    """Train each of `configs` from `seed_count` seeds and choose; None when interrupted before the end.

    What was trained lies in `folder`, where the same call finds it again.
    """
    seeds = tuple(FIRST_SEED + index for index in range(seed_count))
    runs = {
        index: [
            SeedRun(
                config,
                seed,
                CheckpointFolder(folder / f"trial-{config.trial}-seed-{seed}"),
                logs / f"retrain-trial-{config.trial}-seed-{seed}.log",
                f"trial {config.trial}, seed {seed},",
            )
            for seed in seeds
        ]
        for index, config in enumerate(configs)
    }
    every = [run for of_config in runs.values() for run in of_config]
    if not SeedRunner(
        f"retrain: {len(configs)} candidates", every, pool, progress, interruption, options
    ).run():
        return None
    candidates = tuple(_judged(config, runs[index]) for index, config in enumerate(configs))
    return Selection(seeds, candidates, choose(candidates, configs[0].direction == "maximize"))


def read_selection(folder: Path, configs: Sequence[Config], seed_count: int) -> Selection | None:
    """What `keep_selection` wrote for these candidates and so many seeds; None if there is none."""
    try:
        kept = json.loads((folder / "selection.json").read_text())
        seeds = tuple(kept["seeds"])
        if len(seeds) != seed_count or len(kept["candidates"]) != len(configs):
            return None
        candidates = tuple(
            Candidate(config, tuple(one["values"]), one["seconds"], one["failure"])
            for config, one in zip(configs, kept["candidates"], strict=True)
        )
        return Selection(seeds, candidates, [one["chosen"] for one in kept["candidates"]].index(True))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_selection(folder: Path, selection: Selection) -> None:
    """Remember the choice, so that an interrupted retrain goes on with it."""
    with atomic_write(folder / "selection.json") as partial:
        partial.write_text(json.dumps(formatting.json_safe(selection.to_json())))


def selection_lines(selection: Mapping[str, Any]) -> list[str]:
    """A selection, as metrics.json holds it, one line a candidate."""
    lines = []
    for candidate in selection["candidates"]:
        spread = candidate.get("standard_deviation")
        shown = candidate["failure"] or f"{formatting.metric(candidate['mean'])}" + (
            f" ± {spread:.4f}" if spread is not None else ""
        )
        lines.append(
            f"trial {candidate['trial']}: {shown} (in the search {formatting.metric(candidate['search_value'])})"
            + (", chosen" if candidate["chosen"] else "")
        )
    return lines


def _judged(config: Config, runs: Sequence[SeedRun]) -> Candidate:
    values, failures = [], [run.failure for run in runs if run.failure]
    for run in runs:
        last = run.history[-1].metrics.get(config.metric) if run.result and run.history else None
        if last is not None and math.isfinite(last):
            values.append(last)
    if not failures and len(values) < len(runs):
        failures = [f"recorded no finite {config.metric} after its last epoch"]
    seconds = sum(record.seconds for run in runs for record in run.history)
    return Candidate(config, tuple(values), seconds, failures[0] if failures else None)
