"""Files of a document, written into a folder atomically."""

from __future__ import annotations

import csv
import errno
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo import formatting
from hpo.document.document import Document
from hpo.document.html import render_page
from hpo.document.markdown import render_markdown
from hpo.document.parts import attempt
from hpo.document.png_charts import draw_gallery, draw_png
from hpo.errors import DiskFullError, ResultsNotWritableError
from hpo.files.atomic import output_file

PICTURES = "pictures"
"""Folder of the pictures, next to the Markdown file."""


def document_files(document: Document, name: str) -> dict[str, bytes]:
    """Return a document as files: `<name>.html`, `<name>.md` and PNG files under `pictures`."""
    return {
        f"{name}.html": _encoded(render_page(document)),
        f"{name}.md": _encoded(render_markdown(document, PICTURES)),
        **{
            f"{PICTURES}/{figure.key}.png": draw_png(figure)
            for figure in document.figures()
            if not figure.page_only
        },
        **{f"{PICTURES}/{gallery.key}.png": draw_gallery(gallery) for gallery in document.galleries()},
    }


def csv_file(headers: Sequence[str], rows: Iterable[Sequence[object]], line_end: str = "\n") -> bytes:
    """Return a CSV table with empty cells for None and numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow([formatting.csv_cell(header) for header in headers])
    writer.writerows([formatting.csv_cell(cell) for cell in row] for row in rows)
    return _encoded(text.getvalue())


def data_file(name: str, make: Callable[[], bytes]) -> dict[str, bytes]:
    """Return a file by its name, or one that holds the error if it cannot be made.

    Without it, the file of an earlier document would stay.
    """
    as_json = name.endswith(".json")
    return {
        name: attempt(
            name, make, lambda line: json_file({"error": line}) if as_json else csv_file(["error"], [[line]])
        )
    }


def json_file(value: Mapping[str, Any]) -> bytes:
    """Return JSON that every parser reads: NaN and infinities are strings."""
    return _encoded(formatting.json_text(value))


def _encoded(text: str) -> bytes:
    """Return UTF-8; halves of characters, which programs that use Optuna may have stored, are escaped."""
    return text.encode(errors="backslashreplace")


def write_document(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, named by their path in `folder`, and delete pictures of an earlier document.

    Raises:
        ResultsNotWritableError: the folder or a file in it cannot be written.
        DiskFullError: the disk is full.
    """
    with results_writable(folder):
        for picture in (folder / PICTURES).glob("*.png"):
            if f"{PICTURES}/{picture.name}" not in files:
                picture.unlink(missing_ok=True)
        write_files(folder, files)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write each file atomically."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with output_file(path) as partial:
            partial.write_bytes(content)


@contextmanager
def results_writable(folder: Path, hint: str = "") -> Iterator[None]:
    """Replace an `OSError` by an error that names the folder and ends with the hint.

    Raises:
        ResultsNotWritableError: the folder or a file in it cannot be written.
        DiskFullError: the disk is full.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no space left for results in {folder}: free some space{hint}") from exc
        reason = exc.strerror or " ".join(str(exc).split())
        raise ResultsNotWritableError(
            f"results cannot be written to {folder} ({reason}):"
            f" choose another folder with HPO_RESULTS_DIR{hint}"
        ) from exc
