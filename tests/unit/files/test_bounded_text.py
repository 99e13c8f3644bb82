"""Files that users name are read up to a size."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.errors import ConfigFileError
from hpo.export.config_file import read_config
from hpo.files.bounded_text import read_text
from hpo.study.results.result_rows import read_rows


def test_lines_end_with_a_line_feed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("\ufeffa\r\nb\rc\n".encode())
    assert read_text(tmp_path / "file", 10, "utf-8-sig") == "a\nb\nc\n"


@pytest.mark.parametrize("read", [read_config, lambda path: read_rows(path, {})])
def test_device_without_an_end_is_refused(read: object, tmp_path: Path) -> None:
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with pytest.raises(
        ConfigFileError, match=r"zero\.yaml cannot be read \(it is longer than \d+ bytes\): give"
    ):
        read(tmp_path / "zero.yaml")  # type: ignore[operator]
