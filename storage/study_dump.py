"""Read all rows of a study, Optuna's and ours, as JSON, and write them to any database under new ids.

PostgreSQL makes the JSON and reads it back (`row_to_json`, `json_populate_recordset`), so every type,
times, enumerations and NaN included, comes back as it was.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from hpo.outcomes import Outcome
from storage.optuna.attributes import FORMER_NAMES
from storage.study_tables import TABLES, KeptTable

_BATCH = 1000
"""Largest number of rows in a statement."""

_BATCH_CHARACTERS = 4 * 2**20
"""Number of JSON characters after which a statement takes no further row."""


class RowsUnsoundError(Exception):
    """The rows are not a complete study: a row refers to a missing one."""


READABLE_REVISIONS = ("0002", "0003", "0004", "0005", "0006")
"""Revisions of our tables whose rows can be restored into today's."""

_FORMER_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "hpo.studies": {"control": "desired_state", "mark": "uid"},
    "hpo.trials": {"token": "reservation_id", "told": "told_optuna"},
    "hpo.attempts": {"token": "reservation_id"},
    "hpo.epochs": {"token": "reservation_id"},
}
"""Today's names of columns in rows of revision 0002, by table."""

_KEY_OF_TRIAL = re.compile(r"(dashboard:)(\d+)(:.*)", re.DOTALL)
"""Pattern of the study attribute in which optuna-dashboard stores the note of a trial."""

Ids = dict[str, dict[int, int]]
"""New ids by table and old id."""

Row = dict[str, Any]


class DumpedRow(NamedTuple):
    """A row with today's names of columns."""

    table: KeptTable
    values: Row
    characters: int
    """Length of its JSON."""


def begin_snapshot(connection: Connection) -> None:
    """Make a new transaction a read-only snapshot without a time limit."""
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    connection.execute(text("SET LOCAL statement_timeout = 0"))


def read_rows(connection: Connection, study_id: int) -> Iterator[tuple[str, str]]:
    """Yield every row of the study: the table's name, and the columns as a JSON object on one line."""
    streaming = connection.execution_options(stream_results=True, yield_per=_BATCH)
    for table in TABLES:
        order = table.own or ", ".join(table.refers)
        order = f"{order}, epoch" if table.name in ("hpo.epochs", "hpo.rungs") else order
        query = f"SELECT row_to_json(x)::text FROM {table.name} x WHERE {table.of_study} ORDER BY {order}"
        for row in streaming.execute(text(query), {"s": study_id}).scalars():
            yield table.name, row


def with_todays_names(table: KeptTable, row: Row) -> Row:
    """Return a row of an earlier revision with today's names of columns."""
    names = _FORMER_COLUMNS.get(table.name, {})
    return {names.get(column, column): value for column, value in row.items()}


def write_rows(
    connection: Connection,
    rows: Iterable[DumpedRow],
    name: str,
    reservation_attribute: str,
    reservations: tuple[int, int] | None,
) -> Ids:
    """Write a study's rows under new ids and a name; running attempts become released.

    Checkpoints are found by the reservation_id. If those from the lowest to the highest of `reservations` are free in
    this database, they are kept, and claims wait until the transaction ends.

    Raises:
        RowsUnsoundError: a row refers to a missing row.
    """
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    now: str = connection.execute(text("SELECT to_json(clock_timestamp()) #>> '{}'")).scalar_one()
    keeps = reservations is not None and _are_free(connection, reservations[0])
    restored = _Restored(name, reservation_attribute, keeps, now, {table.name: {} for table in TABLES})
    for _, group in groupby(rows, lambda row: row.table.name):
        for batch in _batches(group):
            _write_batch(connection, batch[0].table, [row.values for row in batch], restored)
    if keeps and reservations is not None:
        # Last, because a sequence keeps its value when a transaction fails.
        connection.execute(
            text("SELECT setval(CAST(:q AS regclass), :n)"),
            {"q": _reservation_sequence(connection), "n": reservations[1]},
        )
    return restored.ids


def _are_free(connection: Connection, lowest: int) -> bool:
    """Whether no reservation_id from `lowest` on has been drawn; if so, none is drawn until the transaction ends."""
    query = text(
        f"SELECT last_value + CAST(is_called AS integer) <= :n FROM {_reservation_sequence(connection)}"
    )
    # First without the lock, which other agents of the database wait for.
    if not connection.execute(query, {"n": lowest}).scalar_one():
        return False
    connection.execute(text("LOCK TABLE hpo.trials IN SHARE ROW EXCLUSIVE MODE"))
    return bool(connection.execute(query, {"n": lowest}).scalar_one())


def _reservation_sequence(connection: Connection) -> str:
    return str(
        connection.execute(text("SELECT pg_get_serial_sequence('hpo.trials', 'reservation_id')")).scalar_one()
    )


def _batches(rows: Iterable[DumpedRow]) -> Iterator[list[DumpedRow]]:
    """Yield rows in groups that fit into memory."""
    batch: list[DumpedRow] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += row.characters
        if len(batch) == _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@dataclass
class _Restored:
    """Rewrites the rows of a study for this database."""

    name: str
    reservation_attribute: str
    keeps_reservations: bool
    now: str
    ids: Ids

    def row(self, table: KeptTable, row: Row) -> Row | None:
        """Return the row to write, still with its old id; None to skip it."""
        changed = dict(row)
        for column, other in table.refers.items():
            if changed[column] is not None:
                changed[column] = self.ids[other][changed[column]]
        change = _CHANGES.get(table.name)
        return change(self, changed) if change is not None else changed

    def _named(self, row: Row) -> Row:
        return row | {"study_name" if "study_name" in row else "name": self.name}

    def _study(self, row: Row) -> Row:
        # With new reservation_ids, the study must not use the folders of the original.
        own = {} if self.keeps_reservations else {"uid": secrets.token_hex(4)}
        return self._named(row) | own

    def _ended(self, row: Row) -> Row:
        return row | {"ended_at": row["ended_at"] or self.now}

    def _released(self, row: Row) -> Row:
        return (
            row if row["ended_at"] is not None else row | {"ended_at": self.now, "outcome": Outcome.RELEASED}
        )

    def _reserved(self, row: Row) -> Row:
        # Another trial's checkpoints may lie in the folder of its new id. Without params an agent treats it as a
        # trial that never trained, and clears the folder; Optuna still has its proposal.
        # A paused trial has trained, and may end without another attempt.
        restarts = row["outcome"] is None and row.get("paused_epoch") is None and not self.keeps_reservations
        return row | {"params": None} if restarts else row

    def _reservation(self, row: Row) -> Row | None:
        if row["key"] != self.reservation_attribute:
            return row
        reservation_id = self.ids["hpo.trials"].get(int(row["value_json"]))
        return row | {"value_json": json.dumps(reservation_id)} if reservation_id is not None else None

    def _attribute(self, row: Row) -> Row | None:
        # With another uid, its folders are not those of the original's former names.
        return None if row["key"] == FORMER_NAMES and not self.keeps_reservations else row

    def _note(self, row: Row) -> Row:
        match = _KEY_OF_TRIAL.fullmatch(row["key"])
        trial = self.ids["public.trials"].get(int(match[2])) if match else None
        return row | {"key": f"{match[1]}{trial}{match[3]}"} if match and trial is not None else row


_CHANGES: Mapping[str, Callable[[_Restored, Row], Row | None]] = {
    "public.studies": _Restored._named,
    "public.study_user_attributes": _Restored._attribute,
    "public.study_system_attributes": _Restored._note,
    "public.trial_user_attributes": _Restored._reservation,
    "hpo.studies": _Restored._study,
    "hpo.agents": _Restored._ended,
    "hpo.trials": _Restored._reserved,
    "hpo.attempts": _Restored._released,
}


def _write_batch(connection: Connection, table: KeptTable, batch: list[Row], restored: _Restored) -> None:
    try:
        rows = [changed for row in batch if (changed := restored.row(table, row)) is not None]
        if table.own is not None:
            _give_ids(connection, table, table.own, rows, restored)
    except (KeyError, TypeError, ValueError) as exc:
        raise RowsUnsoundError(f"a row of {table.name} is incomplete, or refers to a missing row") from exc
    connection.execute(
        text(
            f"INSERT INTO {table.name} SELECT * FROM"
            f" json_populate_recordset(CAST(NULL AS {table.name}), CAST(:rows AS json))"
        ),
        {"rows": json.dumps(rows)},
    )


def _give_ids(
    connection: Connection, table: KeptTable, own: str, rows: list[Row], restored: _Restored
) -> None:
    kept = table.name == "hpo.trials" and restored.keeps_reservations
    drawn = [row[own] for row in rows] if kept else _draw_ids(connection, table.name, own, len(rows))
    referred_to = table.referred_to
    for row, new in zip(rows, drawn, strict=True):
        if referred_to:
            restored.ids[table.name][row[own]] = new
        row[own] = new


def _draw_ids(connection: Connection, table: str, own: str, number: int) -> list[int]:
    query = "SELECT nextval(CAST(pg_get_serial_sequence(:t, :c) AS regclass)) FROM generate_series(1, :n)"
    return list(connection.execute(text(query), {"t": table, "c": own, "n": number}).scalars())
