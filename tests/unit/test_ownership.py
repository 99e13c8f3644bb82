"""Which files other users may change or replace."""

from __future__ import annotations

import os
from importlib.util import cache_from_source
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.agent.loads import reference_of
from hpo.errors import ObjectiveFileError, UnknownObjectiveError
from hpo.options.launch_request import LaunchRequest
from hpo.ownership import make_private_folder, open_private, replaceable_by_others
from hpo.study.definition.objective_file import check_objective_file


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


def test_link_that_others_may_replace_is_not_safe(file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to(file.parent)
    assert "shared may be written by every user" in str(replaceable_by_others(shared / "link" / file.name))
    (tmp_path / "link").symlink_to("shared/../shared/link")
    assert "shared may be written by every user" in str(replaceable_by_others(tmp_path / "link" / file.name))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        replaceable_by_others(tmp_path / "circle")


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


@pytest.mark.parametrize("reference", ["digits-cnn", "package.module:Class"])
def test_references_without_a_file_are_not_checked(reference: str) -> None:
    check_objective_file(reference, "s")


def test_objective_file_of_a_study_is_loaded_only_on_request(file: Path) -> None:
    file.chmod(0o666)
    reference = f"{file}:Mine"
    study: Any = SimpleNamespace(name="s", spec=SimpleNamespace(objective=reference))
    with pytest.raises(ObjectiveFileError, match=rf"hpo launch --study s --objective {reference}") as caught:
        reference_of(LaunchRequest(study="s"), study)
    assert "\n" not in str(caught.value)
    assert reference_of(LaunchRequest(study="s", objective=reference), study) == reference


def test_objective_file_that_is_named_with_a_tilde_is_checked(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    check_objective_file("~/objective.py:Mine", "s")
    file.chmod(0o666)
    with pytest.raises(ObjectiveFileError):
        check_objective_file("~/objective.py:Mine", "s")
    with pytest.raises(UnknownObjectiveError, match=r"there is no file .*~nosuchuser/objective.py"):
        check_objective_file("~nosuchuser/objective.py:Mine", "s")


@pytest.mark.parametrize("changed", ["helper.py", "__pycache__", cache_from_source("helper.py")])
def test_modules_that_an_objective_file_imports_are_checked(file: Path, changed: str) -> None:
    file.write_text("def later():\n    from helper import VALUE\n")
    (file.parent / "helper.py").write_text("VALUE = 1\n")
    (file.parent / "__pycache__").mkdir()
    (file.parent / cache_from_source("helper.py")).touch()
    check_objective_file(f"{file}:Mine", "s")
    (file.parent / changed).chmod(0o777)
    with pytest.raises(ObjectiveFileError, match=f"{changed} may be written by every user"):
        check_objective_file(f"{file}:Mine", "s")


@pytest.mark.parametrize(
    "changed", ["p/q/__init__.py", "p/__init__.py", "p/__pycache__", f"p/q/{cache_from_source('mine.py')}"]
)
def test_packages_and_caches_of_an_objective_file_are_checked(tmp_path: Path, changed: str) -> None:
    tmp_path.chmod(0o700)
    folder = tmp_path / "p" / "q"
    for cache in (folder / "__pycache__", folder.parent / "__pycache__"):
        cache.mkdir(parents=True)
    for name in ("__init__.py", "../__init__.py", "mine.py", cache_from_source("mine.py")):
        (folder / name).touch()
    check_objective_file(f"{folder}/mine.py:Mine", "s")
    (tmp_path / changed).chmod(0o777)
    with pytest.raises(ObjectiveFileError, match=f"{changed} may be written by every user"):
        check_objective_file(f"{folder}/mine.py:Mine", "s")


@pytest.mark.parametrize(
    ("mode", "group", "names", "made"),
    [
        (0o755, None, ["logs", "postgres.lock"], 0o700),
        (0o755, os.getegid(), ["logs"], 0o710),
        (0o750, None, ["logs"], 0o750),
        (0o777, None, ["logs"], 0o777),
        (0o755, None, ["logs", "thesis.tex"], 0o755),
        (0o755, None, [], 0o755),
    ],
)
def test_home_of_an_earlier_version_becomes_private(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    group: int | None,
    names: list[str],
    made: int,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    for name in names:
        (home / name).touch()
    if os.geteuid() == 0 and group is None:
        # Root's home is entered by the user of the server.
        make_private_folder(home)
        assert home.stat().st_mode & 0o777 == mode
        other_than_root = home.stat().st_uid + 1
        os.chown(home, other_than_root, -1)
        monkeypatch.setattr(os, "geteuid", lambda: other_than_root)
    make_private_folder(home, group)
    assert home.stat().st_mode & 0o777 == made


def test_private_file_is_not_opened_through_a_link(tmp_path: Path) -> None:
    os.close(open_private(tmp_path / "made", os.O_WRONLY))
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "link", os.O_WRONLY)
    assert not (tmp_path / "target").exists()


def test_private_folder_keeps_an_existing_one(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    folder.chmod(0o750)
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in folder.parent.iterdir()] == ["b"]
