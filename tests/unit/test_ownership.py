"""Which files other users may change or replace."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.agent import launch
from hpo.errors import ObjectiveFileError
from hpo.options.requests import LaunchRequest
from hpo.ownership import make_private_folder, replaceable_by_others
from hpo.study.objective_file import check_objective_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "mine" / "objective.py"
    made.parent.mkdir(mode=0o755)
    made.write_text("")
    made.chmod(0o644)
    return made


def test_own_file_in_a_shared_temporary_folder_is_safe(file: Path) -> None:
    assert replaceable_by_others(file) is None
    file.parent.chmod(0o1777)
    assert replaceable_by_others(file) is None


@pytest.mark.parametrize(
    ("changed", "mode", "reason"),
    [
        ("objective.py", 0o666, "objective.py may be written by every user"),
        (".", 0o777, "mine may be written by every user"),
        ("..", 0o777, "may be written by every user"),
    ],
)
def test_writable_file_or_folder_is_not_safe(file: Path, changed: str, mode: int, reason: str) -> None:
    (file.parent / changed).chmod(mode)
    found = replaceable_by_others(file)
    assert found is not None
    assert reason in found


def test_link_is_as_safe_as_its_target(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(file)
    assert replaceable_by_others(link) is None
    file.chmod(0o666)
    assert replaceable_by_others(link) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user (run as root)")
def test_file_of_another_user_is_not_safe(file: Path) -> None:
    os.chown(file, 65534, 65534)
    assert "belongs to the user" in str(replaceable_by_others(file))


def test_file_of_a_read_only_mount_is_safe(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o666)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert replaceable_by_others(file) is None


@pytest.mark.parametrize("reference", ["digits-cnn", "package.module:Class", "/missing/file.py:Class"])
def test_references_without_a_file_are_not_checked(reference: str) -> None:
    check_objective_file(reference, "s")


def test_objective_file_of_a_study_is_loaded_only_on_request(file: Path) -> None:
    file.chmod(0o666)
    reference = f"{file}:Mine"
    study: Any = SimpleNamespace(name="s", spec=SimpleNamespace(objective=reference))
    with pytest.raises(ObjectiveFileError, match=rf"hpo launch --study s --objective {reference}") as caught:
        launch._reference(LaunchRequest(study="s"), study)
    assert "\n" not in str(caught.value)
    assert launch._reference(LaunchRequest(study="s", objective=reference), study) == reference


def test_private_folder_keeps_an_existing_one(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    folder.chmod(0o750)
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in folder.parent.iterdir()] == ["b"]
