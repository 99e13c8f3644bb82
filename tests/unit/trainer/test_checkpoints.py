from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from hpo.errors import DiskFullError
from hpo.outcomes import Outcome
from hpo.trainer.checkpointing import checkpoint_file
from hpo.trainer.checkpointing.checkpoints import (
    CheckpointFolder,
    CheckpointsError,
    SavedOutcome,
    check_writable,
    trial_folder,
)
from hpo.trainer.messages import EpochRecord

WEIGHTS = np.arange(200.0)


def history(epochs: int) -> list[EpochRecord]:
    return [
        EpochRecord(epoch, {"loss": 1 / epoch, "val_accuracy": 0.5}, 0.1) for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return trial_folder(tmp_path, "study", 7)


def write(folder: CheckpointFolder, *epochs: int) -> None:
    for epoch in epochs:
        folder.write(history(epoch), {"weights": WEIGHTS * epoch, "epoch": epoch})


def newest_epoch(folder: CheckpointFolder) -> int | None:
    """Return the epoch of the newest checkpoint, whose state must be that of the epoch."""
    found = folder.newest()
    if found is None:
        return None
    np.testing.assert_array_equal(found.state["weights"], WEIGHTS * found.epoch)
    assert (found.state["epoch"], list(found.history)) == (found.epoch, history(found.epoch))
    return found.epoch


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def fail(error: BaseException) -> Callable[..., None]:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


def test_state_is_restored_bit_for_bit(folder: CheckpointFolder) -> None:
    state = {
        "kernel": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
        "step": np.array(12, dtype=np.int64),
        "half": np.array([1.5, -2.0], dtype=ml_dtypes.bfloat16),
        "scale": ml_dtypes.float8_e4m3fn(0.5),
        "pairs": np.zeros(2, [("x", ">i4"), ("y", "f2", (2,))]),
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
        assert type(found.state[name]) is type(value)
        if isinstance(value, np.ndarray):
            assert found.state[name].dtype == value.dtype
            np.testing.assert_array_equal(found.state[name], value)
        else:
            assert found.state[name] == value


def write_as_version_0_1(
    folder: CheckpointFolder,
    epoch: int,
    values: dict[str, Any],
    save: Callable[..., None] = np.savez,
    weights: NDArray[Any] = WEIGHTS,
) -> None:
    """Write a file after an epoch with the state saved last, as that version did."""
    header = {"history": [asdict(record) for record in history(epoch)], "values": values}
    write_file(folder, epoch, header, {"weights": weights}, save)


def write_file(
    folder: CheckpointFolder,
    epoch: int,
    header: dict[str, Any],
    arrays: dict[str, Any],
    save: Callable[..., None] = np.savez,
) -> None:
    buffer = BytesIO()
    encoded = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    save(buffer, allow_pickle=False, **arrays, __header__=encoded)
    digest = hashlib.blake2b(buffer.getvalue(), digest_size=16).digest()
    folder.path.mkdir(exist_ok=True, parents=True)
    (folder.path / f"epoch-{epoch:06d}.npz").write_bytes(buffer.getvalue() + digest)


@pytest.mark.parametrize(
    ("values", "trusted"),
    [
        ({"epoch": 3}, True),
        ({"done": 3, "x": 0.5}, True),
        ({"done": 2}, False),
        ({"x": 0.5}, False),
        ({}, False),
    ],
)
def test_checkpoint_of_version_0_1_is_used_only_if_its_state_names_its_epoch(
    folder: CheckpointFolder, values: dict[str, Any], trusted: bool
) -> None:
    """That version also wrote a file after an epoch in which nothing was saved."""
    write_as_version_0_1(folder, 3, values)
    warnings: list[str] = []
    found = folder.newest(warnings.append)
    if trusted:
        assert found is not None
        assert (found.epoch, found.state["weights"].tolist()) == (3, WEIGHTS.tolist())
        assert list(found.history) == history(3)
    else:
        (line,) = warnings
        assert (found, "epoch-000003.npz of version 0.1" in line) == (None, True)


def test_checkpoint_whose_arrays_have_names_is_read(folder: CheckpointFolder) -> None:
    """Files had arrays at the first level only, by name, before lists could hold them."""
    header = {
        "history": [asdict(record) for record in history(3)],
        "arrays": ["half", "scale"],
        "scalars": ["scale"],
        "types": {"half": "bfloat16"},
        "values": {"names": ["a"], "__array__": 1},
    }
    half = np.ones(2, ml_dtypes.bfloat16)
    write_file(folder, 3, header, {"0": half.view("V2"), "1": np.array(0.5)})
    found = folder.newest()
    assert found is not None
    assert (found.state["half"] == half).all()
    assert type(found.state["scale"]) is np.float64
    assert {name: found.state[name] for name in ("scale", "names", "__array__")} == {
        "scale": 0.5,
        "names": ["a"],
        "__array__": 1,
    }


def test_compressed_checkpoint_is_damaged(folder: CheckpointFolder) -> None:
    """A file of a few kilobytes may hold terabytes of zeros."""
    write_as_version_0_1(folder, 3, {"epoch": 3}, save=np.savez_compressed, weights=np.zeros(10**6))
    warnings: list[str] = []
    assert folder.newest(warnings.append) is None
    (line,) = warnings
    assert "epoch-000003.npz" in line


def test_two_newest_checkpoints_are_kept(folder: CheckpointFolder) -> None:
    write(folder, *range(1, 13))
    assert names(folder) == ["epoch-000011.npz", "epoch-000012.npz"]
    assert newest_epoch(folder) == 12


def damages(sound: bytes) -> Iterator[bytes]:
    """Yield the file with damage to any byte: of an array, of a name or of the table of contents."""
    for offset in range(0, len(sound), 7):
        yield sound[:offset] + bytes([sound[offset] ^ 0xFF]) + sound[offset + 1 :]
    for length in (0, 1, len(sound) // 2, len(sound) - 1):
        yield sound[:length]
    yield b"PK\x03\x04 something else"


def test_every_damage_is_reported_and_the_checkpoint_before_is_used(folder: CheckpointFolder) -> None:
    write(folder, 1, 2)
    newest = folder.files()[-1]
    for damaged in damages(newest.read_bytes()):
        newest.write_bytes(damaged)
        warnings: list[str] = []
        found = folder.newest(warnings.append)
        assert found is not None
        assert found.epoch == newest_epoch(folder) == 1
        (line,) = warnings
        assert "epoch-000002.npz is damaged" in line


def test_new_checkpoints_stay_after_a_restart_from_damage(folder: CheckpointFolder) -> None:
    write(folder, 1, 2, 3)
    for path in folder.files():
        path.write_bytes(b"damaged")
    assert newest_epoch(folder) is None
    write(folder, 1)
    assert (newest_epoch(folder), names(folder)) == (1, ["epoch-000001.npz"])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("module", "function"), [(np, "savez"), (os, "fsync")])
def test_full_disk_leaves_earlier_checkpoints_intact(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, error: int, module: object, function: str
) -> None:
    write(folder, 1)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail(OSError(error, "No space left on device")))
        with pytest.raises(DiskFullError, match="no space left") as caught:
            write(folder, 2)
    assert str(folder.path.parent) in str(caught.value)
    assert (newest_epoch(folder), names(folder)) == (1, ["epoch-000001.npz"])
    write(folder, 2)
    assert newest_epoch(folder) == 2


@pytest.mark.parametrize(
    ("error", "raised"),
    [(PermissionError(errno.EACCES, "Permission denied"), CheckpointsError), (MemoryError(), MemoryError)],
)
def test_other_error_is_not_a_full_disk_and_leaves_no_partial_file(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    monkeypatch.setattr(np, "savez", fail(error))
    with pytest.raises(raised) as caught:
        write(folder, 1)
    assert raised is MemoryError or "cannot be written" in str(caught.value)
    assert names(folder) == []


def test_read_only_disk_is_not_a_bug(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing a file fails too on such a disk, even a missing one."""
    write(folder, 1)
    for name in ("open", "unlink", "rename"):
        monkeypatch.setattr(Path, name, fail(OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(CheckpointsError, match=r"cannot be written to .* \(Read-only file system\)"):
        write(folder, 2)


def test_check_of_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, _content: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(CheckpointsError, match=r"cannot be written to .* \(No space left on device\)"):
        check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_partial_file_of_a_killed_trainer_is_not_read_and_is_removed(folder: CheckpointFolder) -> None:
    write(folder, 1)
    half = folder.path / "epoch-000002.0.partial"
    half.write_bytes(b"half")
    assert (newest_epoch(folder), folder.partial()) == (1, [half])
    write(folder, 2)
    assert newest_epoch(folder) == 2
    folder.clear_partial()
    assert names(folder) == ["epoch-000001.npz", "epoch-000002.npz"]


def test_trials_and_studies_have_separate_folders(tmp_path: Path) -> None:
    assert len({trial_folder(tmp_path, study, trial).path for study in "ab" for trial in (1, 2)}) == 4


def test_deleted_folder_is_gone(folder: CheckpointFolder) -> None:
    write(folder, 1)
    folder.delete()
    folder.delete()
    assert not folder.path.exists()
    assert folder.newest() is None


def test_old_checkpoint_that_cannot_be_removed_stays(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "unlink", fail(OSError(errno.EIO, "Input/output error")))
    write(folder, 1, 2, 3)
    assert (len(folder.files()), newest_epoch(folder)) == (3, 3)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.EIO, "Input/output error"), CheckpointsError, "cannot be read"),
        (MemoryError(), MemoryError, None),
    ],
)
def test_unreadable_checkpoint_is_not_damaged(
    folder: CheckpointFolder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
    message: str | None,
) -> None:
    """Ignoring it would restart the trial and delete its checkpoints."""
    write(folder, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file, "_parse", fail(error))
        with pytest.raises(raised, match=message):
            folder.newest()
    assert newest_epoch(folder) == 2


def test_folder_that_cannot_be_listed_is_not_empty(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ignoring it would restart the trial; the state that was just written stays written."""
    write(folder, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", fail(OSError(errno.ESTALE, "Stale file handle")))
        write(folder, 2)
        with pytest.raises(CheckpointsError, match="cannot be listed"):
            folder.newest()
    assert newest_epoch(folder) == 2


def test_outcome_is_saved_until_the_trial_is_trained_further(folder: CheckpointFolder) -> None:
    assert folder.saved_outcome() is None
    ended = SavedOutcome(Outcome.DIVERGED, "loss is nan after epoch 3", "", tuple(history(3)))
    write(folder, 2)
    folder.save_outcome(ended)
    assert folder.saved_outcome() == ended
    # A fenced attempt may have saved an outcome although another one has trained further.
    write(folder, 3)
    assert folder.saved_outcome() is None
    write(folder, 4)
    folder.save_outcome(ended)
    assert folder.saved_outcome() is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"outcome": "pruned"}'])
def test_incomplete_outcome_is_ignored(folder: CheckpointFolder, content: str) -> None:
    write(folder, 1)
    (folder.path / "ended.json").write_text(content)
    assert folder.saved_outcome() is None


GOOD = {"epoch": 1, "metrics": {"loss": 0.5}, "seconds": 0.1}


@pytest.mark.parametrize(
    "forged",
    [
        {"history": [GOOD, GOOD]},
        {"history": [{**GOOD, "epoch": 10**20}]},
        {"history": [{**GOOD, "metrics": {"a\0": 0.5}}]},
        {"history": [{**GOOD, "metrics": {"loss": "text"}}]},
        {"history": [{**GOOD, "seconds": math.nan}]},
        {"history": 5},
        {"history": [GOOD], "arrays": ["none"]},
        [],
    ],
)
def test_forged_checkpoint_counts_as_damaged(folder: CheckpointFolder, forged: Any) -> None:
    write(folder, 1)
    path = folder.path / "epoch-000002.npz"
    if isinstance(forged, dict):
        forged = {"arrays": [], "scalars": [], "values": {}, **forged}

    file = BytesIO()
    np.savez(file, __header__=np.frombuffer(json.dumps(forged).encode(), dtype=np.uint8))
    path.write_bytes(file.getvalue() + hashlib.blake2b(file.getvalue(), digest_size=16).digest())
    warnings: list[str] = []
    found = folder.newest(warnings.append)
    assert found is not None
    assert found.epoch == 1
    assert [line.count("epoch-000002.npz is damaged") for line in warnings] == [1]


def test_array_that_claims_more_than_the_memory_is_damaged(folder: CheckpointFolder) -> None:
    write(folder, 1)
    header = {"history": [GOOD], "arrays": ["weights"], "scalars": [], "values": {}}
    file, member = BytesIO(), BytesIO()
    np.savez(file, __header__=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with ZipFile(file, "a") as archive:
        archive.writestr("0.npy", member.getvalue())
    digest = hashlib.blake2b(file.getvalue(), digest_size=16).digest()
    (folder.path / "epoch-000002.npz").write_bytes(file.getvalue() + digest)
    assert newest_epoch(folder) == 1


def test_pipe_in_place_of_a_file_is_not_waited_for(folder: CheckpointFolder) -> None:
    write(folder, 1)
    os.mkfifo(folder.path / "epoch-000002.npz")
    os.mkfifo(folder.path / "ended.json")
    assert newest_epoch(folder) == 1
    assert folder.saved_outcome() is None


@pytest.mark.parametrize(
    "forged",
    [
        {"outcome": "released", "error": "", "traceback": "", "history": []},
        {"outcome": "diverged", "error": 5, "traceback": "", "history": []},
        {"outcome": "diverged", "error": "", "traceback": "", "history": [{**GOOD, "epoch": 2}]},
    ],
)
def test_forged_outcome_is_ignored(folder: CheckpointFolder, forged: dict[str, Any]) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "ended.json").write_text(json.dumps(forged))
    assert folder.saved_outcome() is None
