"""Rows that are requested from the disk before they are read."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives.data import read_ahead as module
from objectives.data.read_ahead import read_ahead, release

ROW = 3 * mmap.PAGESIZE // 2


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "LEAST_BYTES", ROW)
    np.save(tmp_path / "x.npy", np.arange(8 * ROW, dtype=np.uint8).reshape(8, ROW))
    return np.asarray(np.load(tmp_path / "x.npy", mmap_mode="r"))


def test_rows_are_requested_by_pages_in_order(mapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    pages = type("Pages", (), {"madvise": lambda _, *request: asked.append(request)})()
    real = module._pages(mapped)
    assert real is not None
    monkeypatch.setattr(module, "_pages", lambda _: pages)
    monkeypatch.setattr(module.np, "frombuffer", lambda *_: np.ndarray(len(real), np.uint8, real))
    request = read_ahead(mapped[2:])
    assert request is not None
    request(np.array([[3, 0]]))
    header = 128
    for row, (advice, begin, length) in zip((2, 5), asked, strict=True):
        assert (advice, begin % mmap.PAGESIZE) == (mmap.MADV_WILLNEED, 0)
        assert begin <= header + row * ROW < begin + mmap.PAGESIZE
        assert begin + length == header + (row + 1) * ROW


def test_requests_change_no_row(mapped: Any) -> None:
    request = read_ahead(mapped)
    assert request is not None
    before = mapped.copy()
    request(np.array([7, 0, 7]))
    np.testing.assert_array_equal(mapped, before)


def test_small_arrays_and_those_in_memory_are_left_alone(
    mapped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_ahead(mapped.copy()) is None
    assert read_ahead(mapped[:, ::2]) is None
    monkeypatch.setattr(module, "LEAST_BYTES", 2 * mapped.nbytes)
    assert read_ahead(mapped) is None


def resident_kib(path: str) -> int:
    """Return the part of the mappings of a file that this process has in memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            inside = line.endswith(path)
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def test_released_rows_are_no_memory_of_the_process(mapped: Any, tmp_path: Path) -> None:
    before = mapped.copy()
    assert resident_kib(str(tmp_path / "x.npy")) > 0
    release(mapped)
    assert resident_kib(str(tmp_path / "x.npy")) == 0
    np.testing.assert_array_equal(mapped, before)


@pytest.mark.usefixtures("mapped")
def test_rows_that_may_have_been_written_are_kept(tmp_path: Path) -> None:
    private = np.asarray(np.load(tmp_path / "x.npy", mmap_mode="c"))
    private[3] = 7
    release(private)
    assert (private[3] == 7).all()
