"""Statements that a connection prepares once: planning takes longer than most of an agent's statements themselves.

Mark a statement with `prepared(...)`. The parameters get their types from their places in it, so each needs a place
that has one: a column, a cast, an operator whose other side is typed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, TextClause, event, text
from sqlalchemy.engine import ExceptionContext

from storage.connection.retry import is_stale

MOST_USES = 256
"""Uses after which a connection prepares its statements again: PostgreSQL may keep a plan that was made for small
tables until it analyzes them, a minute later or never."""

_PARAMETER = re.compile(r"%(?:\((\w+)\)s|(%))")
_KEY = "hpo_prepared"


def prepared(sql: str) -> TextClause:
    """Return a statement, or several separated by semicolons, that each connection prepares."""
    return text(sql).execution_options(prepared=True)


@dataclass
class _Prepared:
    """The statements of one connection."""

    names: dict[str, str] = field(default_factory=dict)
    """SQL of statements, as the driver gets it, to the SQL that executes them."""
    uses: int = 0


def follow(engine: Engine) -> None:
    """Let the connections of an engine prepare the statements that are marked."""
    event.listen(engine, "before_cursor_execute", _execute, retval=True)
    event.listen(engine, "handle_error", _forget)


def _execute(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    """Prepare a marked statement, unless the connection has; return its execution in place of it."""
    if executemany or context is None or not context.execution_options.get("prepared"):
        return statement, parameters
    # The dictionary belongs to the driver's connection and ends with it.
    known = connection.info.setdefault(_KEY, _Prepared())
    known.uses += 1
    if known.uses > MOST_USES:
        cursor.execute("DEALLOCATE ALL")
        known = connection.info[_KEY] = _Prepared(uses=1)
    if statement not in known.names:
        # One round trip for all of them.
        preparations, executions = _parts(statement, len(known.names))
        cursor.execute(preparations)
        known.names[statement] = executions
    return known.names[statement], parameters


def _parts(statement: str, number: int) -> tuple[str, str]:
    """Return the SQL that prepares the parts of a statement, and the SQL that executes them."""
    preparations, executions = [], []
    for place, part in enumerate(statement.split(";")):
        name, numbers = f"hpo_{number}_{place}", dict[str, int]()

        def numbered(match: re.Match[str], numbers: dict[str, int] = numbers) -> str:
            return "%" if match[2] else f"${numbers.setdefault(match[1], len(numbers) + 1)}"

        preparations.append(f"PREPARE {name} AS {_PARAMETER.sub(numbered, part)}")
        values = ", ".join(f"%({parameter})s" for parameter in numbers)
        executions.append(f"EXECUTE {name}" + (f"({values})" if values else ""))
    return ";".join(preparations), ";".join(executions)


def _forget(context: ExceptionContext) -> None:
    """Prepare all statements of a connection again after an error of one."""
    if context.connection is not None and is_stale(context.original_exception):
        info: Mapping[str, Any] = context.connection.info
        if (known := info.get(_KEY)) is not None:
            known.uses = MOST_USES
