"""Log lines of commands that train: time, level and context as text or JSON, above the live view at a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

from hpo.formatting import printable
from hpo.terminal.columns import fitted
from storage.redaction import passwords_given, redacted

Format = Literal["text", "json"]
FORMATS: tuple[Format, ...] = ("text", "json")

FIELDS = ("study", "trial", "attempt", "seed")
"""Context that a record may carry, in the order in which it is written."""


class _Context(logging.Filter):
    """Adds the study to each record that names none: a process trains for one study."""

    study: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if self.study is not None and not hasattr(record, "study"):
            record.study = self.study
        return True


class MaskingFormatter(logging.Formatter):
    """Masks the passwords of databases and trackers, which errors of libraries may hold; others may read the log."""

    def format(self, record: logging.LogRecord) -> str:
        return _masked(super().format(record))


class TerminalFormatter(MaskingFormatter):
    """`trial 3: message`, for a user who reads messages as they happen and knows the study.

    The message is the record's `at_terminal`, where it has one.
    """

    def format(self, record: logging.LogRecord) -> str:
        shown = [f"{name} {value}" for name, value in context_of(record).items() if name in ("trial", "seed")]
        given = getattr(record, "at_terminal", None)
        message = super().format(record) if given is None else _masked(given)
        return f"{', '.join(shown)}: {message}" if shown else message


class TextFormatter(MaskingFormatter):
    """`2026-11-28T04:45:00Z INFO study=cifar trial=3 attempt=7 message`; a command's result is its message alone."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "is_result", False):
            return super().format(record)
        context = "".join(f" {name}={value}" for name, value in context_of(record).items())
        return f"{_utc(record)} {record.levelname}{context} {super().format(record)}"


class JsonFormatter(MaskingFormatter):
    """One JSON object with `time`, `level`, the context fields, `message` and the record's own `fields`.

    `fields` hold the numbers of a message that is written for people; a `message` among them replaces it.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _utc(record), "level": record.levelname, **context_of(record)}
        given: dict[str, object] = getattr(record, "fields", {})
        # Before they are quoted: a mask may take a quotation mark with it.
        fields = {name: _masked(value) if isinstance(value, str) else value for name, value in given.items()}
        return json.dumps(line | {"message": super().format(record)} | fields)


class LogHandler(logging.Handler):
    """Writes records to standard output; an error while writing is raised, as `print` would."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream
        self.log_format: Format = "text"
        self.write_line: Callable[[str], None] = self._print
        """Destination of a formatted line; the live view prints it above itself."""
        self.context = _Context()
        self.addFilter(self.context)

    @property
    def stream(self) -> TextIO:
        return self._stream or sys.stdout

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(printable(self._formatter().format(record)))

    def _formatter(self) -> logging.Formatter:
        if self.formatter is not None:
            return self.formatter
        if self.log_format == "json":
            return JsonFormatter()
        return TerminalFormatter() if self.stream.isatty() else TextFormatter()

    def _print(self, line: str) -> None:
        shown = line if self.log_format == "json" else fitted(line, self.stream)
        print(shown, file=self.stream, flush=True)


_handler = LogHandler()


def configure(log_format: Format | None = None, verbose: bool | None = None) -> None:
    """Write the log of `hpo` to standard output; None leaves a setting as it is."""
    logger = logging.getLogger("hpo")
    if _handler not in logger.handlers:
        logger.addHandler(_handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    if log_format is not None:
        _handler.log_format = log_format
    if verbose is not None:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def set_study(name: str) -> None:
    """Name the study in every record from now on."""
    _handler.context.study = name


def shows_view() -> bool:
    """Whether a live view may be drawn: standard output is a terminal, and JSON was not asked for."""
    return _handler.log_format == "text" and _handler.stream.isatty()


@contextmanager
def lines_to(write_line: Callable[[str], None], formatter: logging.Formatter | None = None) -> Iterator[None]:
    """Send log lines within this block to `write_line` instead of standard output, perhaps in another format."""
    before = _handler.write_line, _handler.formatter
    _handler.write_line, _handler.formatter = write_line, formatter or _handler.formatter
    try:
        yield
    finally:
        _handler.write_line, _handler.formatter = before


def print_line(line: str) -> None:
    """Print a line where log lines go: to standard output, above the live view if there is one."""
    _handler.write_line(printable(_masked(line)))


def context_of(record: logging.LogRecord) -> dict[str, object]:
    """Fields of `FIELDS` that the record carries."""
    return {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}


def _masked(text: str) -> str:
    """Return `text` without the passwords that this process was given."""
    return redacted(text, passwords_given(sys.argv, os.environ))


def _utc(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
