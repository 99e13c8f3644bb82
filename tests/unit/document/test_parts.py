"""A part that raises is replaced by a line; the others are kept."""

from __future__ import annotations

import json

import pytest

from hpo.document.document import Bullets, Paragraph, Section
from hpo.document.files import data_file
from hpo.document.parts import attempt, section
from tests.broken_parts import fail


@pytest.mark.parametrize(
    "error",
    [
        KeyError("runs"),
        MemoryError(),
        RecursionError(),
        AssertionError(),
        OSError(5, "I/O"),
        Exception("a\nb"),
    ],
)
def test_part_that_raises_is_replaced_by_a_line(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Paragraph:
        raise error

    one, two = Paragraph("one"), [Bullets(["two"]), Paragraph("three")]
    [found] = section("Cost", lambda: one, broken, lambda: two, lambda: None)
    assert found.blocks[:1] + found.blocks[2:] == [one, *two]
    line = found.blocks[1]
    assert isinstance(line, Paragraph)
    assert line.text.startswith(f"A part of section Cost is left out ({type(error).__name__}")
    assert "\n" not in line.text
    assert f"A part of section Cost is left out ({type(error).__name__}" in caplog.text


def test_section_without_blocks_is_omitted() -> None:
    assert section("Calibration", lambda: None, lambda: []) == []
    assert section("Calibration", lambda: Paragraph("a")) == [Section("Calibration", [Paragraph("a")])]


def test_interrupt_is_no_error_of_a_part() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt("a part", interrupt, lambda _: None)


def test_data_file_that_cannot_be_made_holds_the_error() -> None:
    line = "report.json is left out (KeyError: 'broken')."
    assert json.loads(data_file("report.json", fail)["report.json"]) == {"error": line}
    assert data_file("trials.csv", fail)["trials.csv"].decode().splitlines()[0] == "error"
    assert data_file("trials.csv", lambda: b"a\n") == {"trials.csv": b"a\n"}
