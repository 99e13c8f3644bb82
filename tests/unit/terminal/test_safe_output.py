"""Text of objectives and studies reaches no terminal as control sequences, whichever way it is printed."""

from __future__ import annotations

import io
import logging
import sys

import click
import pytest
from rich.text import Text

from hpo.cli import output
from hpo.document.document import Bullets, Code, Document, Paragraph, Section, Table
from hpo.document.files import csv_file, document_files
from hpo.formatting import csv_cell, printable
from hpo.terminal import log
from hpo.terminal.safe_output import SafeStream, safe_console, safe_streams

CLIPBOARD, TITLE, CLEAR = "\x1b]52;c;aGk=\x07", "\x1b]0;title\x1b\\", "\x1b[2J\x1b[H"
HOSTILE = [
    CLIPBOARD,
    TITLE,
    CLEAR,
    "\x9b2J",
    "\x1bc",
    "over\rwritten",
    "\u202egnp",
    "\x1b[8mhidden",
    "\x1b[1;8mhidden",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def controls(text: str) -> set[str]:
    return {one for one in text if not one.isprintable() and one not in "\n\t"}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_sink_passes_control_characters(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with safe_streams():
        click.echo(f"a name {hostile}")
        print(hostile)
        sys.stdout.writelines([hostile])
        output.echo_table(("name",), [(hostile,)])
        output.echo_facts([(hostile, hostile)])
        output.echo_csv(("name",), [(hostile,)])
        safe_console().print(Text(hostile), highlight=False)
        log.LogHandler().emit(logging.makeLogRecord({"msg": hostile, "levelname": "INFO"}))
    # Names of facts are bold.
    assert controls(terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")) == set()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_document_holds_control_characters(hostile: str) -> None:
    blocks = [
        Paragraph(hostile),
        Bullets([hostile]),
        Code(hostile, "", hostile),
        Table((hostile,), [(hostile,)]),
    ]
    files = document_files(
        Document(hostile, hostile, [Section(hostile, blocks)], hostile, [hostile]), "report"
    )
    assert all(controls(content.decode()) == set() for content in files.values())


def test_colours_pass_at_a_terminal_only() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        SafeStream(stream).write("\x1b[1;32mgreen\x1b[0m")
    assert terminal.getvalue() == "\x1b[1;32mgreen\x1b[0m"
    assert file.getvalue() == "?[1;32mgreen?[0m"


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding="ascii")
    SafeStream(stream).write("猫 a\n")
    stream.flush()
    assert binary.getvalue() == b"\\u732b a\n"


def test_text_in_any_language_is_kept() -> None:
    text = "Größe 大小 μ ☂ 🙂\ttab\nline"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("cell", "kept"),
    [("=HYPERLINK(1)", False), ("+1+1", False), ("-2+3", False), ("@SUM", False), ("\t=1", False)]
    + [(cell, True) for cell in ("-0.5", "+1e-3", "-inf", "relu", "", 0.5, -1, None)],
)
def test_csv_holds_no_formulas(cell: object, kept: bool) -> None:
    assert csv_cell(cell) == (cell if kept else f"'{cell}")
    assert kept or csv_file(("a",), [(cell,)]).decode().splitlines()[1].lstrip('"').startswith("'")
