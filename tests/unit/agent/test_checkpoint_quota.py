"""Order in which checkpoints beyond the quota are removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from hpo.agent.checkpoint_quota import enforce_quota
from storage.reservations import OpenReservations

FILE = 100
OPEN = OpenReservations(running=frozenset({2}), waiting=frozenset({3, 4}))


def fill(folder: Path) -> None:
    """Trial 1 is finished, 2 runs, 3 and 4 wait after 9 and 5 epochs; two checkpoints each."""
    for reservation_id, epochs in {1: (7, 8), 2: (1, 2), 3: (8, 9), 4: (4, 5)}.items():
        trial = folder / "s" / f"trial-{reservation_id}"
        trial.mkdir(parents=True)
        for epoch in epochs:
            (trial / f"epoch-{epoch:06}.npz").write_bytes(b"x" * FILE)
    (folder / "s" / "retrain-abc").mkdir()
    (folder / "s" / "retrain-abc" / "kept").write_bytes(b"x" * FILE)


def at_once(_reservation: int, act: Callable[[], None]) -> bool:
    act()
    return True


def ended(reservation_ids: Collection[int], act: Callable[[Collection[int]], None]) -> None:
    act(reservation_ids)


def enforce(folder: Path, quota: int | None) -> tuple[int, list[str]]:
    fill(folder)
    used = enforce_quota(folder / "s", quota, lambda: OPEN, at_once, ended)
    left = sorted(f"{path.parent.name[6:]}:{int(path.stem[6:])}" for path in folder.rglob("epoch-*"))
    assert used == FILE * len(left)
    assert (folder / "s" / "retrain-abc" / "kept").exists()
    return used, left


def test_only_finished_trials_are_removed_without_a_quota(tmp_path: Path) -> None:
    assert enforce(tmp_path, None)[1] == ["2:1", "2:2", "3:8", "3:9", "4:4", "4:5"]


def test_spare_checkpoints_of_waiting_trials_are_removed_first(tmp_path: Path) -> None:
    assert set(enforce(tmp_path, 5 * FILE)[1]) > {"2:1", "2:2", "3:9", "4:5"}


def test_spare_checkpoint_of_a_running_trial_is_removed_next(tmp_path: Path) -> None:
    assert enforce(tmp_path, 3 * FILE)[1] == ["2:2", "3:9", "4:5"]


def test_waiting_trial_with_the_fewest_epochs_is_removed_next(tmp_path: Path) -> None:
    assert enforce(tmp_path, 2 * FILE)[1] == ["2:2", "3:9"]


def test_paused_trial_is_removed_before_waiting_ones(tmp_path: Path) -> None:
    fill(tmp_path)
    paused = OpenReservations(running=frozenset({2}), paused=(3,), waiting=frozenset({4}))
    assert enforce_quota(tmp_path / "s", 2 * FILE, lambda: paused, at_once, ended) == 2 * FILE
    assert {path.parent.name for path in tmp_path.rglob("epoch-*")} == {"trial-2", "trial-4"}


@pytest.mark.parametrize(("quota", "left"), [(None, ["1:8", "3:9"]), (5, ["1:8"]), (4, [])])
def test_newest_checkpoints_of_complete_trials_that_may_go_on_are_removed_first(
    tmp_path: Path, quota: int | None, left: list[str]
) -> None:
    fill(tmp_path)
    found = OpenReservations(running=frozenset({2}), waiting=frozenset({4}), kept=(3, 1))
    enforce_quota(tmp_path / "s", quota and quota * FILE, lambda: found, at_once, ended)
    names = sorted(f"{path.parent.name[6:]}:{int(path.stem[6:])}" for path in tmp_path.rglob("epoch-*"))
    assert names == sorted([*left, "2:1", "2:2", "4:4", "4:5"])


def test_newest_checkpoint_of_a_running_trial_stays(tmp_path: Path) -> None:
    assert enforce(tmp_path, 1) == (FILE, ["2:2"])


def test_trial_that_begins_meanwhile_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    begun = tmp_path / "s" / "trial-5"

    def reservations() -> OpenReservations:
        begun.mkdir()
        return OPEN

    enforce_quota(tmp_path / "s", None, reservations, at_once, ended)
    assert begun.exists()


@pytest.mark.parametrize("kept", [(), (1,)])
def test_finished_trial_that_is_reopened_meanwhile_stays(tmp_path: Path, kept: tuple[int, ...]) -> None:
    fill(tmp_path)
    asked: list[int] = []

    def reopened(reservation_ids: Collection[int], act: Callable[[Collection[int]], None]) -> None:
        asked.extend(reservation_ids)
        act([])

    found = OpenReservations(running=frozenset({2}), waiting=frozenset({3, 4}), kept=kept)
    enforce_quota(tmp_path / "s", 1, lambda: found, at_once, reopened)
    assert asked == [1]
    assert (tmp_path / "s" / "trial-1" / "epoch-000008.npz").exists()


def test_waiting_trial_that_another_agent_has_begun_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    asked: list[int] = []

    def begun(reservation_id: int, _act: Callable[[], None]) -> bool:
        asked.append(reservation_id)
        return False

    assert enforce_quota(tmp_path / "s", 1, lambda: OPEN, begun, ended) == 3 * FILE
    assert asked == [4, 3]
    assert {path.parent.name for path in tmp_path.rglob("epoch-*")} == {"trial-2", "trial-3", "trial-4"}


def test_folder_of_an_interrupted_deletion_is_removed(tmp_path: Path) -> None:
    fill(tmp_path)
    half = tmp_path / "s" / "evicted-1234"
    half.mkdir()
    (half / "epoch-000001.npz").write_bytes(b"x")
    enforce_quota(tmp_path / "s", None, lambda: OPEN, at_once, ended)
    assert not half.exists()


def test_partial_files_of_waiting_trials_are_removed(tmp_path: Path) -> None:
    fill(tmp_path)
    halves = [
        tmp_path / "s" / f"trial-{reservation_id}" / "epoch-000010.0.partial" for reservation_id in (2, 3, 4)
    ]
    for half in halves:
        half.write_bytes(b"x" * FILE)

    def four_has_begun(reservation_id: int, act: Callable[[], None]) -> bool:
        return reservation_id != 4 and at_once(reservation_id, act)

    used = enforce_quota(tmp_path / "s", 100 * FILE, lambda: OPEN, four_has_begun, ended)
    assert [half.exists() for half in halves] == [True, False, True]
    # Without those of trial 1, which is finished, and one of three that were half written.
    assert used == 8 * FILE


def test_folder_may_disappear_while_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another agent has finished its trial."""
    fill(tmp_path)
    listed = Path.iterdir

    def gone(path: Path) -> Iterator[Path]:
        if path.name == "trial-3":
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", gone)
    enforce_quota(tmp_path / "s", 5 * FILE, lambda: OPEN, at_once, ended)
    assert (tmp_path / "s" / "trial-2" / "epoch-000002.npz").exists()
    assert not (tmp_path / "s" / "trial-1").exists()
