from __future__ import annotations

import errno
import math
from pathlib import Path

import numpy as np
import pytest

from hpo.errors import DiskFullError
from hpo.outcomes import Outcome
from hpo.trainer import checkpoints
from hpo.trainer.checkpoints import (
    CheckpointFolder,
    CheckpointsUnreadableError,
    CheckpointsUnwritableError,
    SavedOutcome,
    trial_folder,
)
from hpo.trainer.messages import EpochRecord


def history(epochs: int) -> list[EpochRecord]:
    return [
        EpochRecord(epoch, {"loss": 1 / epoch, "val_accuracy": 0.5}, 0.1) for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return trial_folder(tmp_path, "study", 7)


def test_state_is_restored_bit_for_bit(folder: CheckpointFolder) -> None:
    state = {
        "kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
        "step": np.array(12, dtype=np.int64),
        "epoch": 2,
        "rate": 0.1 + 0.2,
        "best": math.inf,
        "name": "adam",
        "order": [3, 1, 2],
    }
    assert folder.newest() is None
    folder.write(history(2), state)
    found = folder.newest()
    assert found is not None
    assert (found.epoch, list(found.history)) == (2, history(2))
    assert found.state.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert found.state[name].dtype == value.dtype
            np.testing.assert_array_equal(found.state[name], value)
        else:
            assert found.state[name] == value


def test_two_newest_checkpoints_are_kept(folder: CheckpointFolder) -> None:
    for epoch in range(1, 13):
        folder.write(history(epoch), {"epoch": epoch})
    assert sorted(path.name for path in folder.path.iterdir()) == ["epoch-000011.npz", "epoch-000012.npz"]
    assert folder.newest().epoch == 12


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_damaged_checkpoint_falls_back_to_the_one_before(folder: CheckpointFolder, damage: str) -> None:
    weights = np.arange(1000.0)
    for epoch in (1, 2):
        folder.write(history(epoch), {"weights": weights * epoch})
    newest = folder.path / "epoch-000002.npz"
    content = bytearray(newest.read_bytes())
    match damage:
        case "empty":
            content = bytearray()
        case "cut":
            content = content[: len(content) // 2]
        case "flipped":
            content[len(content) // 2] ^= 0xFF
        case "other":
            content = bytearray(b"PK\x03\x04 something else")
    newest.write_bytes(content)
    found = folder.newest()
    assert found is not None
    assert found.epoch == 1
    np.testing.assert_array_equal(found.state["weights"], weights)


def test_trial_without_an_undamaged_checkpoint_starts_from_scratch(folder: CheckpointFolder) -> None:
    folder.write(history(1), {})
    (folder.path / "epoch-000001.npz").write_bytes(b"")
    assert folder.newest() is None
    folder.write(history(1), {})
    assert folder.newest().epoch == 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("when", ["write", "sync"])
def test_full_disk_leaves_earlier_checkpoints_intact(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, error: int, when: str
) -> None:
    folder.write(history(1), {"epoch": 1})

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((np, "savez", fail) if when == "write" else (checkpoints.os, "fsync", fail)))
        with pytest.raises(DiskFullError, match="no space left") as caught:
            folder.write(history(2), {"epoch": 2})
    assert str(folder.path.parent) in str(caught.value)
    assert [path.name for path in folder.path.iterdir()] == ["epoch-000001.npz"]
    assert folder.newest().state == {"epoch": 1}
    folder.write(history(2), {"epoch": 2})
    assert folder.newest().epoch == 2


def test_other_write_error_is_not_a_full_disk(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(CheckpointsUnwritableError, match="Permission denied"):
        folder.write(history(1), {})


def test_partial_file_of_a_killed_process_is_not_read(folder: CheckpointFolder) -> None:
    folder.write(history(1), {})
    (folder.path / "epoch-000002.partial").write_bytes(b"half")
    assert folder.newest().epoch == 1
    folder.write(history(2), {})
    assert folder.newest().epoch == 2


def test_trials_and_studies_have_separate_folders(tmp_path: Path) -> None:
    paths = {
        trial_folder(tmp_path, study, reservation_id).path
        for study in ("a", "b")
        for reservation_id in (1, 2)
    }
    assert len(paths) == 4


def test_deleted_folder_is_gone(folder: CheckpointFolder) -> None:
    folder.write(history(1), {})
    folder.delete()
    folder.delete()
    assert not folder.path.exists()
    assert folder.newest() is None


def written(folder: CheckpointFolder, epochs: int, first: int = 1) -> None:
    for epoch in range(first, first + epochs):
        history = [EpochRecord(n, {"loss": 1 / n}, 0.1) for n in range(1, epoch + 1)]
        folder.write(history, {"weights": np.arange(200.0) * epoch, "done": epoch})


def test_every_damage_is_detected(tmp_path: Path) -> None:
    """Any byte, of an array, of a name or of the table of contents."""
    folder = CheckpointFolder(tmp_path / "trial-1")
    written(folder, 2)
    newest = folder.files()[-1]
    sound = newest.read_bytes()
    for place in range(0, len(sound), 7):
        damaged = bytearray(sound)
        damaged[place] ^= 0xFF
        newest.write_bytes(damaged)
        found = folder.newest()
        assert found is not None
        assert found.epoch == 1, place
        assert np.array_equal(found.state["weights"], np.arange(200.0))
    for cut in (0, 1, len(sound) // 2, len(sound) - 1):
        newest.write_bytes(sound[:cut])
        found = folder.newest()
        assert found is not None
        assert found.epoch == 1


def test_new_checkpoints_stay_after_a_restart_from_damage(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "trial-1")
    written(folder, 3)
    for path in folder.files():
        path.write_bytes(b"damaged")
    assert folder.newest() is None
    written(folder, 1)
    found = folder.newest()
    assert found is not None
    assert found.epoch == 1
    assert [path.name for path in folder.files()] == ["epoch-000001.npz"]


def test_partial_files_of_a_killed_trainer_are_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "trial-1")
    written(folder, 1)
    half = folder.path / "epoch-000002.0.partial"
    half.write_bytes(b"x" * 100)
    assert folder.partial() == [half]
    folder.clear_partial()
    assert [path.name for path in folder.path.iterdir()] == ["epoch-000001.npz"]


def test_read_only_disk_is_not_a_bug(folder: CheckpointFolder, monkeypatch) -> None:
    """Removing a file fails too on such a disk, even a missing one."""
    folder.write(history(1), {})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("open", "unlink", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(CheckpointsUnwritableError, match="Read-only file system"):
        folder.write(history(2), {})


def test_old_checkpoint_that_cannot_be_removed_stays(folder: CheckpointFolder, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", refuse)
    for epoch in (1, 2, 3):
        folder.write(history(epoch), {})
    assert len(folder.files()) == 3
    assert folder.newest().epoch == 3


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.EIO, "Input/output error"), CheckpointsUnreadableError), (MemoryError(), MemoryError)],
)
def test_unreadable_checkpoint_is_not_damaged(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    """Ignoring it would restart the trial and delete its checkpoints."""
    for epoch in (1, 2):
        folder.write(history(epoch), {})

    def refuse(_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_parse", refuse)
        with pytest.raises(raised):
            folder.newest()
    assert folder.newest().epoch == 2


def test_folder_that_cannot_be_listed_is_not_empty(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignoring it would restart the trial; the state that was just written stays written."""

    def refuse(_: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    folder.write(history(1), {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        folder.write(history(2), {})
        with pytest.raises(CheckpointsUnreadableError, match="cannot be listed"):
            folder.newest()
    assert folder.newest().epoch == 2


def test_damage_is_reported(folder: CheckpointFolder) -> None:
    for epoch in (1, 2):
        folder.write(history(epoch), {})
    (folder.path / "epoch-000002.npz").write_bytes(b"damaged")
    warnings: list[str] = []
    assert folder.newest(warnings.append).epoch == 1
    (line,) = warnings
    assert "epoch-000002.npz is damaged" in line


def test_outcome_is_saved_until_the_trial_is_trained_further(folder: CheckpointFolder) -> None:
    assert folder.saved_outcome() is None
    ended = SavedOutcome(Outcome.DIVERGED, "loss is nan after epoch 3", "", tuple(history(3)))
    folder.write(history(2), {})
    folder.save_outcome(ended)
    assert folder.saved_outcome() == ended
    # A fenced attempt may have saved an outcome although another one has trained further.
    folder.write(history(3), {})
    assert folder.saved_outcome() is None
    folder.write(history(4), {})
    folder.save_outcome(ended)
    assert folder.saved_outcome() is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"outcome": "pruned"}'])
def test_incomplete_outcome_is_ignored(folder: CheckpointFolder, content: str) -> None:
    folder.write(history(1), {})
    (folder.path / "ended.json").write_text(content)
    assert folder.saved_outcome() is None


def test_failed_write_leaves_no_partial_file(tmp_path: Path, monkeypatch) -> None:
    folder = CheckpointFolder(tmp_path / "trial-1")

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "savez", refuse)
    with pytest.raises(MemoryError):
        written(folder, 1)
    assert list(folder.path.iterdir()) == []
