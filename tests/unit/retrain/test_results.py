"""Summaries of final runs over several seeds, and errors while they are written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hpo.errors import DiskFullError, HpoError, ResultsNotWritableError
from hpo.export.config import Config
from hpo.retrain.results import SeedResult, check_folder, summaries, write_results
from hpo.trainer.messages import EpochRecord

CONFIG = Config(objective="digits-cnn", params={}, epochs=1, seed=0, metric="f1", direction="maximize")


def result(seed: int, accuracy: float) -> SeedResult:
    metrics = {
        "loss": 0.1,
        "val_accuracy": accuracy,
        "f1": 0.5,
        "images_per_second": 1e4,
        "learning_rate": 0.0,
    }
    recorded = {"test_accuracy": accuracy, "test_loss": 0.2, "n_test": 360, "seconds_of_test": 1.5}
    return SeedResult(seed, (EpochRecord(1, metrics, 1.0),), recorded, 1.0)


def test_only_measurements_have_an_interval() -> None:
    found = summaries([result(1, 0.9), result(2, 0.8)], "f1")
    assert list(found) == ["test_accuracy", "test_loss", "final_loss", "final_val_accuracy", "final_f1"]


def test_interval_of_an_accuracy_ends_at_one() -> None:
    high, low = (
        summaries([result(1, a), result(2, b)])["test_accuracy"] for a, b in ((0.9, 1.0), (0.0, 0.1))
    )
    assert high.interval95 is not None
    assert low.interval95 is not None
    assert high.interval95[1] == 1.0
    assert low.interval95[0] == 0.0


def test_files_of_an_earlier_retrain_are_replaced_or_removed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for name in ("confusion_matrix.csv", "model.keras", "MODEL.md", "model_card.md", "notes.txt"):
        (folder / name).write_text("of another")
    write_results(folder, CONFIG, [result(1, 0.9)], {}, tmp_path / "model.keras")
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "best_config.yaml", "history.csv", "notes.txt"
    }  # fmt: skip


def test_interval_of_a_calibration_error_begins_at_zero() -> None:
    rows = [result(seed, 0.9) for seed in (1, 2)]
    for row, error in zip(rows, (0.001, 0.1), strict=True):
        row.recorded["test_calibration_error"] = error
    assert summaries(rows)["test_calibration_error"].interval95[0] == 0.0


def test_writability_check_leaves_no_file(tmp_path: Path) -> None:
    check_folder(tmp_path / "results" / "s")
    assert not (tmp_path / "results" / "s").exists()
    (tmp_path / "results" / "s").mkdir()
    check_folder(tmp_path / "results" / "s")
    assert not list((tmp_path / "results" / "s").iterdir())


def test_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_bytes(b"")
    for folder in (tmp_path / "results", Path("/proc/r")):
        with pytest.raises(ResultsNotWritableError, match="HPO_RESULTS_DIR"):
            check_folder(folder / "s")


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, DiskFullError), (errno.EACCES, ResultsNotWritableError)]
)
def test_write_error_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[HpoError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(expected, match="no epoch is trained twice"):
        write_results(tmp_path / "s", CONFIG, [result(1, 0.9)], {}, None)


def test_whole_number_has_an_interval_and_a_boolean_has_none() -> None:
    rows = [result(1, 0.9), result(2, 0.8)]
    for row in rows:
        row.recorded.update(test_correct=190 + row.seed % 2, test_passed=True, test_note="text")
    found = summaries(rows)
    assert found["test_correct"].mean == 190.5
    assert not {"test_passed", "test_note"} & found.keys()


def test_records_and_metrics_named_like_a_column_are_kept_apart(tmp_path: Path) -> None:
    metrics = {"loss": 0.1, "seed": 5.0, "epoch": 6.0, "seconds": 7.0}
    recorded = {"seed": "mine", "seconds": 8.0, "test_accuracy": 0.9}
    written = write_results(
        tmp_path / "s", CONFIG, [SeedResult(3, (EpochRecord(1, metrics, 1.0),), recorded, 2.0)], {}, None
    )
    assert written["runs"] == [
        {"seed": 3, "seconds": 2.0, "recorded_seed": "mine", "recorded_seconds": 8.0, "test_accuracy": 0.9}
    ]
    history = (tmp_path / "s" / "history.csv").read_text().splitlines()
    assert history[0] == "seed,epoch,seconds,loss,metric_seed,metric_epoch,metric_seconds"
    assert history[1] == "3,1,1.0,0.1,5.0,6.0,7.0"


@pytest.mark.parametrize(
    "odd",
    [{"confusion": 5}, {"confusion": [[1, 2], [3]]}, {"classes": 10}, {"confusion": "text", "classes": "ab"}],
)
def test_records_of_another_form_are_kept_as_given(tmp_path: Path, odd: dict[str, object]) -> None:
    run = result(1, 0.9)
    run.recorded.update(odd)
    written = write_results(tmp_path / "s", CONFIG, [run], {}, None)
    assert {name: written["runs"][0][name] for name in odd} == odd
    assert not (tmp_path / "s" / "confusion_matrix.csv").exists()
