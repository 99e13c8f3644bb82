"""A planned search for people and for programs, and the memory that it reports."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from hpo.planning.memory import MemoryWatch
from hpo.planning.plan import Planned
from hpo.planning.text import json_of, lines_of
from hpo.study.estimates import Estimate

ESTIMATE = Estimate(
    slots=2,
    trials=8,
    epochs=6,
    load_seconds=24.4,
    start_seconds=4.5,
    epoch_seconds=0.912,
    measured_epochs=9,
    trial_seconds=10.0,
    least_epochs=32,
    most_epochs=48,
    least_seconds=32.6,
    most_seconds=39.9,
    trial_bytes=100 << 20,
    shared_bytes=400 << 20,
    free_bytes=1 << 30,
    checkpoint_bytes=0,
)
PLANNED = Planned(
    study="s",
    objective="o",
    pruner="median",
    params={"x": 0.5},
    estimate=ESTIMATE,
    ended_after=None,
    timeout_seconds=None,
    affordable=None,
    stops_early=False,
)


def shown(line: str, **changes: Any) -> str:
    """Return the line that begins so, of an estimate with some changes."""
    own = {name: changes.pop(name) for name in list(changes) if name in vars(PLANNED)}
    planned = replace(PLANNED, estimate=replace(ESTIMATE, **changes), **own)
    return next((text for text in lines_of(planned) if text.startswith(line)), "")


def test_estimate_is_shown_with_the_parts_of_a_trial_and_the_range_of_the_search() -> None:
    assert lines_of(PLANNED)[:4] == [
        "default configuration: x=0.5",
        "trial: 10.0s = 4.5s to start + 6 epochs of 0.912s (median of 9 epochs, with 2 slots busy)",
        "memory: 100.0 MiB for each trial, 400.0 MiB for all together, 1.0 GiB free: room for 6 trials at a time",
        "search: 8 trials, 32 to 48 epochs, 32.6s to 39.9s on 2 slots (the less, the more the pruner median ends"
        " early), after 24.4s to load",
    ]


@pytest.mark.parametrize(
    ("line", "changes", "expected"),
    [
        ("trial", {"measured_epochs": 0}, "(from a part of the first epoch, with 2 slots busy)"),
        ("trial", {"ended_after": 4}, "; this one ended itself after epoch 4"),
        ("trial", {"epochs": None, "most_epochs": None}, "trial: 10.0s, with 2 slots busy"),
        ("memory", {"slots": 7}, "room for 6 trials at a time, not for 7: use fewer --workers"),
        ("memory", {"free_bytes": 0}, "room for 0 trials at a time, not for 2: use fewer --workers"),
        ("memory", {"trial_bytes": None}, "memory: not measured, because the probe was too short"),
        ("checkpoints", {"checkpoint_bytes": 2048}, "checkpoints: 2.0 KiB for each trial"),
        (
            "search",
            {"least_epochs": 48, "least_seconds": 39.9},
            "8 trials, 48 epochs, 39.9s on 2 slots, after",
        ),
        ("search", {"most_epochs": None, "least_seconds": 39.9}, "search: 8 trials, up to 39.9s on 2 slots"),
        ("search", {"trials": 1, "slots": 1, "least_epochs": 1, "most_epochs": 1}, "1 trial, 1 epoch, 32.6s"),
        (
            "--timeout",
            {"timeout_seconds": 60.0, "affordable": (2, 5)},
            "1m00s: 2 to 5 of 8 trials can finish",
        ),
        ("--timeout", {"timeout_seconds": 60.0, "affordable": (8, 8)}, "1m00s: 8 of 8 trials can finish"),
        ("a goal", {"stops_early": True}, "may end the search earlier"),
    ],
)
def test_line_of_an_unusual_estimate(line: str, changes: dict[str, Any], expected: str) -> None:
    assert expected in shown(line, **changes)


def test_estimate_for_programs_has_all_figures_and_what_a_time_buys() -> None:
    found = json_of(replace(PLANNED, timeout_seconds=60.0, affordable=(2, 5)))
    assert found.items() >= ESTIMATE.to_json().items()
    assert (found["fewest_trials_within_timeout"], found["most_trials_within_timeout"]) == (2, 5)
    assert json_of(PLANNED)["fewest_trials_within_timeout"] is None


def test_memory_of_a_trainer_is_apart_from_that_of_the_others() -> None:
    watch = MemoryWatch()
    watch.sample(set())
    watch.sample({2**22 + 1})
    assert watch.highest is None
    watch = MemoryWatch()
    watch.sample({os.getpid()})
    assert watch.highest is not None
    assert watch.highest.each > 1 << 20
