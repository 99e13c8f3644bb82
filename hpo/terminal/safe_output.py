"""Standard streams on which text of others cannot control the terminal.

Every command prints through them, so that no place that prints has to remember it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from hpo.formatting import printable

if TYPE_CHECKING:
    from rich.console import Console

_STYLE = re.compile(r"(\x1b\[(?:0|1|2|3|22|23|3[0-7]|9[0-7])?(?:;(?:0|1|2|3|22|23|3[0-7]|9[0-7]))*m)")
"""Sequences of colours and weights, none of which hides text; Click drops them without a terminal."""


class SafeStream:
    """A text stream that replaces control characters; at a terminal it passes colours on."""

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = stream
        """Stream for control sequences of our own, such as those of the live view."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)

    def write(self, text: str) -> int:
        """Write the text; a line may end with a carriage return and a line feed.

        Characters that the stream's encoding lacks, as in the locale C, are written as Python escapes them.
        """
        if not text.isprintable():
            text = text.replace("\r\n", "\n")
            parts = _STYLE.split(text) if self.unfiltered.isatty() else [text]
            text = "".join(part if index % 2 else printable(part) for index, part in enumerate(parts))
        try:
            self.unfiltered.write(text)
        except UnicodeEncodeError:
            encoding = self.unfiltered.encoding
            self.unfiltered.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines."""
        for line in lines:
            self.write(line)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Filter standard output and standard error within this block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, SafeStream(stream)) for stream in before)
    try:
        yield
    finally:
        # Click replaces a stream whose reader is gone.
        for name, stream in zip(("stdout", "stderr"), before, strict=True):
            if isinstance(getattr(sys, name), SafeStream):
                setattr(sys, name, stream)


def safe_console(stream: TextIO | None = None, **options: Any) -> Console:
    """Return a console of rich, which replaces few control characters itself; its own sequences are kept."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(printable(segment.text), segment.style)

    stream = stream or sys.stdout
    return SafeConsole(file=getattr(stream, "unfiltered", stream), **options)
