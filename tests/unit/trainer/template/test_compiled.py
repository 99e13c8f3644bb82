"""Programs that JAX has compiled are kept in the home, within a size."""

from __future__ import annotations

import os
from pathlib import Path

from hpo.trainer.template.compiled import keep_programs, trim


def test_programs_are_kept_in_the_home_by_processor(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    keep_programs(environment, tmp_path)
    folder = Path(environment["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == tmp_path / "compiled"
    assert environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0"
    again: dict[str, str] = {}
    keep_programs(again, tmp_path)
    assert again == environment


def test_folder_of_the_user_stays(tmp_path: Path) -> None:
    environment = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    keep_programs(environment, tmp_path)
    assert environment == {"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}


def test_oldest_programs_are_removed_beyond_a_size(tmp_path: Path) -> None:
    files = [tmp_path / "processor" / f"{number}-cache" for number in range(4)]
    files[0].parent.mkdir()
    for age, file in enumerate(files):
        file.write_bytes(bytes(100))
        os.utime(file, (age, age))
    trim(tmp_path, 400)
    assert all(file.exists() for file in files)
    trim(tmp_path, 399)
    assert [file.exists() for file in files] == [False, False, False, True]
    trim(tmp_path / "missing", 0)
