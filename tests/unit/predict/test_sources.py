"""The inputs that `hpo predict` is given: files, folders, tables and lists."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from hpo.errors import DataDamagedError, DataMissingError, HpoError
from hpo.predict.sources import image_paths, survey


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_folder_yields_its_images_at_any_depth_in_order(tmp_path: Path) -> None:
    made(tmp_path, "b/2.png", "b/10.JPG", "a.webp", ".hidden/x.jpg", "b/notes.txt", "ä.jpg")
    found = [str(Path(path).relative_to(tmp_path)) for path in image_paths([str(tmp_path)], None)]
    assert found == ["a.webp", "b/10.JPG", "b/2.png", "ä.jpg"]
    counted = survey([str(tmp_path), str(tmp_path / "a.webp")])
    assert counted.count == 5
    assert counted.longest == max(len(f"{tmp_path}/{name}") for name in found)
    assert survey([str(made(tmp_path / "wide", "猫猫.jpg"))]).longest == len(f"{tmp_path}/wide/.jpg") + 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\n\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\nlast.jpg", ["a.jpg", "last.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
        (b"a.jpg\r\nb.jpg\r\nc.jpg\r", ["a.jpg", "b.jpg", "c.jpg"]),
        (b"a.jpg\r\0", ["a.jpg\r"]),
        (b"", []),
    ],
)
def test_list_on_standard_input_has_paths_on_lines_or_between_nul(
    content: bytes, expected: list[str]
) -> None:
    for name in ("-", "/dev/stdin"):
        assert list(image_paths([name], io.BytesIO(content))) == expected
    assert survey(["-"]).count is None


def test_listed_paths_are_yielded_before_the_list_ends() -> None:
    class Endless(io.RawIOBase):
        def read1(self, _: int) -> bytes:
            return b"a.jpg\n"

    paths = image_paths(["-"], Endless())  # type: ignore[arg-type]
    assert [next(paths) for _ in range(3)] == ["a.jpg"] * 3


def test_paths_of_a_table_start_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("name,path\nx,a.jpg\ny,sub/b.jpg\nz,\n")
    assert list(image_paths([str(tmp_path / "new.csv")], None)) == [
        f"{tmp_path}/a.jpg", f"{tmp_path}/sub/b.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "a" * 5000, "a\0b.jpg"])
def test_name_that_no_file_can_have_is_absent(name: str) -> None:
    """The empty one must not stand for the working directory."""
    with pytest.raises(DataMissingError, match="there is no file or folder"):
        survey([name])


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ("absent.jpg", DataMissingError, "there is no file or folder .*absent.jpg: check its name"),
        ("empty", DataMissingError, "has no image: give image files"),
        ("looped", DataDamagedError, "is a link to a folder that it lies in"),
        ("plain.csv", DataDamagedError, "has no column path"),
        ("broken.parquet", DataDamagedError, "cannot be read"),
        # As of <(…) in a shell, which would be waited for.
        ("pipe", DataMissingError, "is a pipe and not a file: give a list of paths on standard input"),
    ],
)
def test_invalid_source_is_refused_before_anything_is_read(
    tmp_path: Path, argument: str, error: type[HpoError], message: str
) -> None:
    made(tmp_path, "empty/notes.txt", "looped/a.jpg", "broken.parquet")
    (tmp_path / "looped" / "again").symlink_to(tmp_path / "looped")
    (tmp_path / "plain.csv").write_text("file\na.jpg\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=message):
        survey([str(tmp_path / argument)])
