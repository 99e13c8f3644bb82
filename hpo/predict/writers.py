"""Predictions as a table, CSV or JSON, written while they are made."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TextIO, get_args

from hpo.formatting import csv_cell, json_safe, table_cell
from hpo.predict.forms import Form, Outputs
from hpo.terminal.columns import display_width, padded

Format = Literal["table", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
_PATH = "path"


class Writer(ABC):
    """Writes the predictions of one batch after another."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        self.stream, self.form = stream, form

    @abstractmethod
    def write(self, names: Sequence[str], outputs: Outputs) -> None:
        """Write the predictions of inputs with these names."""

    def close(self) -> None:
        """Write the end."""
        self.stream.flush()


class TableWriter(Writer):
    """Aligned columns; a batch with longer cells than all before it makes columns wider."""

    def __init__(self, stream: TextIO, form: Form, longest: int = 0) -> None:
        super().__init__(stream, form)
        self._headers = [_PATH, *form.table_headers]
        self._widths = [display_width(header) for header in self._headers]
        self._widths[0] = max(self._widths[0], longest)
        self._begun = False

    def write(self, names: Sequence[str], outputs: Outputs) -> None:
        rows = [
            [table_cell(text) for text in (name, *self.form.table_cells(row))]
            for name, row in zip(names, outputs, strict=True)
        ]
        for row in rows:
            self._widths = [
                max(most, display_width(text)) for most, text in zip(self._widths, row, strict=True)
            ]
        for row in rows if self._begun else [self._headers, *rows]:
            cells = [
                padded(text, columns, right=header in self.form.right)
                for text, columns, header in zip(row, self._widths, self._headers, strict=True)
            ]
            self.stream.write("  ".join(cells).rstrip() + "\n")
        self._begun = True
        self.stream.flush()


class CsvWriter(Writer):
    """CSV with numbers in full precision."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        super().__init__(stream, form)
        self._csv = csv.writer(stream, lineterminator="\n")
        self._csv.writerow([csv_cell(header) for header in (_PATH, *form.headers)])

    def write(self, names: Sequence[str], outputs: Outputs) -> None:
        self._csv.writerows(
            [csv_cell(cell) for cell in (name, *self.form.cells(row))]
            for name, row in zip(names, outputs, strict=True)
        )
        self.stream.flush()


class JsonWriter(Writer):
    """A JSON list with each prediction on a line of its own."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        super().__init__(stream, form)
        self._separator = "["

    def write(self, names: Sequence[str], outputs: Outputs) -> None:
        for name, row in zip(names, outputs, strict=True):
            value = {_PATH: name, **json_safe(self.form.to_json(row))}
            # Bytes of a path that are not UTF-8 are escaped, with everything else that is not ASCII.
            plain = all(character < "\ud800" or character > "\udfff" for character in name)
            self.stream.write(
                f"{self._separator}\n{json.dumps(value, ensure_ascii=not plain, allow_nan=False)}"
            )
            self._separator = ","
        self.stream.flush()

    def close(self) -> None:
        self.stream.write("[]\n" if self._separator == "[" else "\n]\n")
        super().close()


def writer(form: Format, stream: TextIO, predictions: Form, longest: int) -> Writer:
    """Return the writer of a format; a table leaves room for paths of `longest` columns."""
    if form == "csv":
        return CsvWriter(stream, predictions)
    if form == "json":
        return JsonWriter(stream, predictions)
    return TableWriter(stream, predictions, longest)
