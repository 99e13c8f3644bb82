"""Progress of a retrain's candidates on this host."""

from __future__ import annotations

import os
from pathlib import Path

from hpo.files.lock import exclusive_lock
from hpo.study.monitoring.retrain_progress import CHOSEN, FILE, read, write


def made(folder: Path, ended: int = 7, **dropped: int) -> None:
    folder.mkdir(exist_ok=True)
    write(folder, candidates=4, seeds=5, runs=17, ended=ended, dropped=dropped)


def test_progress_shows_whether_a_process_trains_the_candidates(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    folder = tmp_path / "candidates-1"
    made(folder)
    assert str(read(tmp_path)) == "interrupted, the same hpo retrain continues: 4 candidates, 7 of 17 runs"
    with exclusive_lock(folder, "s"):
        assert str(read(tmp_path)) == "running: 4 candidates, 7 of 17 runs"
        made(folder, 17, **{"trial 3": 2})
        (folder / CHOSEN).touch()
        shown = read(tmp_path)
        assert str(shown) == (
            "final runs of the winner: 4 candidates, 17 of 17 runs; dropped: trial 3 after 2 of 5 seeds"
        )
    assert shown is not None
    assert shown.to_json()["dropped"] == {"trial 3": 2}


def test_latest_readable_progress_is_shown(tmp_path: Path) -> None:
    for place, name in enumerate(("candidates-1", "candidates-2", "candidates-3")):
        made(tmp_path / name, place)
        os.utime(tmp_path / name / FILE, (place, place))
    (tmp_path / "candidates-3" / FILE).write_text("{")
    found = read(tmp_path)
    assert found is not None
    assert found.ended == 1


def test_progress_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    write(tmp_path / "missing", candidates=4, seeds=5, runs=17, ended=0, dropped={})
