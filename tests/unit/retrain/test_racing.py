"""The race among candidates: the rule on its values, and the runs that it ends."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.export.config import Config
from hpo.options.retrain_request import RetrainRequest
from hpo.outcomes import Outcome
from hpo.process.signals import SignalHandler
from hpo.retrain.racing import FAILED, standing_of
from hpo.retrain.selection import FIRST_SEED, Selection, select
from hpo.study.monitoring import retrain_progress
from hpo.terminal.progress import View
from hpo.trainer.ends.exits import Event
from hpo.trainer.messages import Epoch, EpochRecord, Finished, Start, Started
from hpo.trainer.testing import FakePool

CONFIG = Config(
    objective="o", params={}, epochs=2, seed=0, metric="val_accuracy", direction="maximize", value=0.9
)
NOISE = (0.000, 0.004, -0.003, 0.002, -0.004)
"""Differences of seeds, which are not those of all candidates."""


def row(centre: float, shift: int = 0, failed: int | None = None) -> list[float]:
    """Return the values of a candidate around a mean by seed; that of the seed `failed` is missing."""
    values = [centre + NOISE[(seed + shift) % len(NOISE)] for seed in range(len(NOISE))]
    return values if failed is None else [*values[:failed], FAILED, *values[failed + 1 :]]


FIELD = [row(0.908), row(0.91, 1), row(0.70, 2), row(0.60, 3)]
"""Two that are close, and two far behind."""


def drops(values: list[list[float]], **options: object) -> dict[int, int]:
    found = standing_of(values, **{"maximize": True, **options})  # type: ignore[arg-type]
    return {candidate: drop.seeds for candidate, drop in found.drops.items()}


def test_candidates_far_behind_are_dropped_after_two_seeds() -> None:
    found = standing_of(FIELD, maximize=True)
    assert {candidate: drop.seeds for candidate, drop in found.drops.items()} == {2: 2, 3: 2}
    assert all(0 <= drop.probability < 0.01 for drop in found.drops.values())
    assert [[seed for seed in range(5) if found.needs(candidate, seed)] for candidate in (1, 2)] == [
        [0, 1, 2, 3, 4],
        [0, 1],
    ]


def test_direction_decides_who_is_behind() -> None:
    assert drops([row(0.91), row(0.908, 1), row(1.20, 2)], maximize=False) == {2: 2}


def test_control_is_never_dropped() -> None:
    assert drops(FIELD, control=3) == {2: 2}


@pytest.mark.parametrize(
    "values",
    [
        [values[:2] for values in FIELD],
        [values[:1] for values in FIELD],
        FIELD[:1],
        [[0.9] * 5, [0.7] * 5, [0.6] * 5],
        [[value + centre for value in NOISE] for centre in (0.9, 0.7, 0.6)],
        [[1e200, 1e200, 1e200], [1e199, 1e200, 1e200], [0.0, 1.0, 0.0]],
    ],
    ids=["two seeds", "one seed", "one candidate", "no noise", "the same noise", "too large"],
)
def test_nobody_is_dropped_without_an_estimate_of_noise_or_a_seed_to_save(values: list[list[float]]) -> None:
    assert drops(values) == {}


def test_later_seeds_of_a_candidate_that_failed_are_not_needed() -> None:
    found = standing_of([row(0.90), row(0.91, 1, failed=2)], maximize=True)
    assert [found.needs(1, seed) for seed in range(5)] == [True, True, True, False, False]
    assert found.needs(0, 4)


@pytest.mark.parametrize("failed", range(5))
def test_candidates_dropped_because_of_a_leader_that_fails_compete_again(failed: int) -> None:
    values = [row(0.95, failed=failed), row(0.70, 1), row(0.698, 2)]
    assert drops(values) == {}
    assert drops([row(0.95), *values[1:]]) == {1: 2, 2: 2}


class Trainers:
    """Trainers of one epoch after the other, whose values a test gives by candidate and seed."""

    def __init__(self, values: list[list[float]]) -> None:
        self.values = values
        self.trained: dict[tuple[int, int], int] = {}

    def script(self, start: Start) -> Iterable[Event]:
        candidate, seed = start.params["candidate"], start.seed - FIRST_SEED
        value = self.values[candidate][seed]
        self.trained[candidate, seed] = self.trained.get((candidate, seed), 0) + 1
        epochs = [Epoch(EpochRecord(epoch, {"val_accuracy": value}, 0.1)) for epoch in (1, 2)]
        end = Finished(Outcome.COMPLETE) if value == value else Finished(Outcome.DIVERGED, "loss is nan")
        return [Started(1, 0), *epochs, end]


class Shown:
    """Progress that keeps the last view."""

    view: View | None = None

    def update(self, view: View) -> None:
        self.view = view

    def trial_ended(self, *_: object) -> None:
        """No trial ends here."""

    def close(self) -> None:
        """There is no terminal."""


def chosen(
    folder: Path, trainers: Trainers, slots: int = 1, control: int | None = None, **options: bool
) -> tuple[Selection, Shown]:
    configs = [
        replace(CONFIG, params={"candidate": index}, trial=index) for index in range(len(trainers.values))
    ]
    request = RetrainRequest(study="s", seeds=5, top=len(configs), **options)  # type: ignore[arg-type]
    pool, shown = FakePool(slots=slots, default=trainers.script), Shown()
    found = select(configs, request, control, folder, folder, pool, shown, SignalHandler())  # type: ignore[arg-type]
    assert found is not None
    assert pool.busy == frozenset()
    return found, shown


def test_dropped_candidates_are_trained_no_further_and_the_winner_from_all_seeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainers = Trainers(FIELD)
    caplog.set_level("INFO")
    tmp_path = tmp_path / "candidates-1"
    tmp_path.mkdir()
    selection, shown = chosen(tmp_path, trainers)
    assert selection.chosen == 1
    assert [len(one.values) for one in selection.candidates] == [5, 5, 2, 2]
    assert len(trainers.trained) == 5 + 5 + 2 + 2
    assert shown.view is not None
    assert shown.view.note == "dropped, by seeds trained: trial 2 after 2, trial 3 after 2"
    assert (shown.view.counts.budget, shown.view.counts.complete) == (14, 14)
    progress = retrain_progress.read(tmp_path.parent)
    assert progress is not None
    assert str(progress) == (
        "interrupted, the same hpo retrain continues: 4 candidates, 14 of 14 runs;"
        " dropped: trial 2 after 2, trial 3 after 2 of 5 seeds"
    )
    assert any(line.startswith("trial 3 is dropped after 2 of 5 seeds, because") for line in caplog.messages)


def test_no_racing_trains_all_seeds_of_all_candidates(tmp_path: Path) -> None:
    trainers = Trainers(FIELD)
    selection, _ = chosen(tmp_path, trainers, racing=False)
    assert (selection.chosen, len(trainers.trained)) == (1, 20)
    assert all(one.drop is None and len(one.values) == 5 for one in selection.candidates)


@pytest.mark.parametrize("failed", [None, 0, 2, 4])
def test_selection_does_not_depend_on_slots_or_on_the_order_in_which_runs_end(
    tmp_path: Path, failed: int | None
) -> None:
    values = [row(0.95, failed=failed), *FIELD, row(0.905, 4)]
    alone, _ = chosen(tmp_path, Trainers(values), control=4)
    assert alone.candidates[0].failure == (None if failed is None else "diverged after epoch 2")
    for slots in (2, 3, 7, 30):
        trainers = Trainers(values)
        mixed = random.Random(slots)

        class Late(FakePool):
            """A pool whose trainers report in any order."""

            def wait(self, timeout: float) -> list[tuple[int, Event]]:
                held = {slot for slot in self._trainers if mixed.random() < 0.5}  # noqa: B023
                kept = {slot: self._trainers.pop(slot) for slot in held}
                events = super().wait(timeout)
                self._trainers.update(kept)
                return events

        pool, shown = Late(slots=slots, default=trainers.script), Shown()
        configs = [one.config for one in alone.candidates]
        request = RetrainRequest(study="s", seeds=5, top=len(configs))
        found = select(configs, request, 4, tmp_path, tmp_path, pool, shown, SignalHandler())  # type: ignore[arg-type]
        assert found is not None
        without_time = [replace(one, seconds=0.0) for one in found.candidates]
        assert without_time == [replace(one, seconds=0.0) for one in alone.candidates]
        assert found.chosen == alone.chosen


def test_interrupted_race_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, _ = chosen(tmp_path, Trainers(FIELD), slots=2)
    trainers = Trainers(FIELD)
    configs = [one.config for one in undisturbed.candidates]
    request = RetrainRequest(study="s", seeds=5, top=4)
    found = None
    for waits in range(3, 200, 7):
        signals, pool = SignalHandler(), FakePool(slots=2, default=trainers.script)
        left = [waits]

        def interrupt() -> None:
            left[0] -= 1  # noqa: B023
            if left[0] == 0:  # noqa: B023
                signals.received.append(2)  # noqa: B023

        pool.on_wait = interrupt
        found = select(configs, request, None, tmp_path, tmp_path, pool, Shown(), signals)  # type: ignore[arg-type]
        if found is not None:
            break
    assert found is not None
    assert waits > 3
    assert found == undisturbed
