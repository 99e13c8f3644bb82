"""Selection among candidates by their results from new seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpo.export.config import Config
from hpo.retrain.racing import Drop
from hpo.retrain.results import SeedResult
from hpo.retrain.seed_run import RetrainFailedError, SeedRun
from hpo.retrain.selection import (
    Candidate,
    Selection,
    _candidate_of,
    choose,
    read_selection,
    write_selection,
)
from hpo.retrain.selection_text import selection_lines
from hpo.trainer.checkpointing.checkpoints import CheckpointFolder
from hpo.trainer.messages import EpochRecord

CONFIG = Config(
    objective="o", params={}, epochs=1, seed=0, metric="val_accuracy", direction="maximize", value=0.9
)


def config(trial: int) -> Config:
    return replace(CONFIG, params={"x": trial}, trial=trial)


def candidate(trial: int, *values: float, failure: str | None = None) -> Candidate:
    return Candidate(config(trial), values, 1.0, failure)


def test_candidate_with_the_best_mean_is_chosen() -> None:
    candidates = [candidate(0, 0.9, 0.7), candidate(1, 0.81, 0.81), candidate(2, 0.1, 0.2)]
    assert choose(candidates, maximize=True) == 1
    assert choose(candidates, maximize=False) == 2


def test_search_value_decides_between_equal_candidates() -> None:
    assert choose([candidate(0, 0.5), candidate(1, 0.5)], maximize=True) == 0


def test_candidate_with_a_failed_run_is_not_chosen() -> None:
    assert choose([candidate(0, 0.9, failure="diverged"), candidate(1, 0.1)], maximize=True) == 1
    with pytest.raises(RetrainFailedError, match="every candidate failed"):
        choose([candidate(0, failure="diverged after epoch 1")], maximize=True)


def test_candidate_without_a_final_metric_is_not_chosen() -> None:
    silent = SeedRun(
        config=config(0),
        seed=1,
        folder=CheckpointFolder(Path("none")),
        log=Path("log"),
        history=[EpochRecord(1, {"loss": 0.1}, 1.0)],
    )
    silent.result = SeedResult(1, tuple(silent.history), {}, 1.0)
    judged = _candidate_of(config(0), [silent], 1.0)
    assert (judged.mean, judged.failure) == (None, "recorded no finite val_accuracy after its last epoch")
    assert choose([judged, candidate(1, 0.1)], maximize=True) == 1
    assert (
        "recorded no finite"
        in selection_lines(Selection((1,), (judged, candidate(1, 0.1)), 1, 2).to_json())[0]
    )


def test_candidate_of_a_study_that_counts_by_the_best_epoch_does_too() -> None:
    counted = replace(config(0), value_rule="best", direction="maximize")
    losses = [
        EpochRecord(number, {counted.metric: value}, 1.0) for number, value in enumerate((0.5, 0.9, 0.7), 1)
    ]
    run = SeedRun(
        config=counted, seed=1, folder=CheckpointFolder(Path("none")), log=Path("log"), history=losses
    )
    run.result = SeedResult(1, tuple(losses), {}, 1.0)
    assert _candidate_of(counted, [run], 1.0).values == (0.9,)


def test_selection_is_read_again_for_the_same_candidates(tmp_path: Path) -> None:
    configs = [config(0), config(1)]
    dropped = replace(candidate(1, 0.1), drop=Drop(1, 0.01))
    selection = Selection((1, 2), (candidate(0, 0.8, 0.9), dropped), 0, 2)
    write_selection(tmp_path, selection)
    assert read_selection(tmp_path, configs, 2, racing=True) == selection
    # Other candidates, seeds or rules have no selection.
    assert read_selection(tmp_path, configs, 3, racing=True) is None
    assert read_selection(tmp_path, configs[:1], 2, racing=True) is None
    assert read_selection(tmp_path, configs, 2, racing=False) is None
    (tmp_path / "selection.json").write_text("{")
    assert read_selection(tmp_path, configs, 2, racing=True) is None


def test_selection_is_shown_one_line_a_candidate() -> None:
    shown = Selection((1, 2), (candidate(0, 0.8, 0.9), candidate(1, failure="oom in epoch 1")), 0, 2)
    default = Candidate(replace(config(0), trial=None, value=None), (0.5,), 1.0)
    dropped = replace(candidate(2, 0.5), drop=Drop(1, 0.0123))
    shown = replace(shown, candidates=(*shown.candidates, default, dropped))
    assert selection_lines(shown.to_json()) == [
        "trial 0: 0.8500 ± 0.0707 (in the search 0.9000), chosen",
        "trial 1: oom in epoch 1 (in the search 0.9000)",
        "default configuration: 0.5000",
        "trial 2: 0.5000 (in the search 0.9000), dropped after 1 of 2 seeds, because its chance to win was 1.2 %",
    ]


def test_interval_of_a_candidate_stays_within_the_bounds_of_its_metric() -> None:
    shown = Selection((1, 2), (candidate(0, 0.7, 1.0),), 0, 1).to_json()
    assert shown["candidates"][0]["interval95"] == (0.0, 1.0)
