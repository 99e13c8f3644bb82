"""Folders of the checkpoints of a retrain's runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpo.export.config import Config
from hpo.files.lock import exclusive_lock
from hpo.retrain.folders import Kind, RunFolders

CONFIG = Config(
    objective="o", params={"x": 1.0}, epochs=4, seed=1, metric="loss", direction="minimize", trial=3
)


def begin(folder: Path) -> Path:
    (folder / "seed-1").mkdir(parents=True)
    (folder / "seed-1" / "epoch-000001.npz").touch()
    return folder


@pytest.mark.parametrize("kind", ["retrain", "candidates"])
def test_runs_of_each_code_have_a_folder_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Kind
) -> None:
    folders, configs = RunFolders(tmp_path, "s"), [CONFIG]
    first = begin(folders.of(kind, configs, "aaa"))
    other = begin(folders.of(kind, [replace(CONFIG, epochs=5)], "aaa"))
    assert folders.of(kind, configs, "aaa") == first
    assert caplog.messages == []
    second = folders.of(kind, configs, "bbb")
    assert second not in (first, other)
    (line,) = caplog.messages
    assert "was interrupted (aaa -> bbb): it begins again" in line
    begin(second)
    folders.of(kind, configs, "aaa")
    assert len(caplog.messages) == 1, "the earlier runs continue"
    with exclusive_lock(second, "s"):
        folders.delete(kind, configs)
    assert (first.exists(), second.exists(), other.exists()) == (False, True, True)


def test_runs_of_an_earlier_version_begin_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders = RunFolders(tmp_path, "s")
    folder = folders.of("retrain", [CONFIG], "aaa")
    earlier = begin(folder.with_name(folder.name.removesuffix("-aaa")))
    folders.of("retrain", [CONFIG], "aaa")
    assert "(unknown -> aaa)" in caplog.messages[-1]
    folders.delete("retrain", [CONFIG])
    assert not earlier.exists()
