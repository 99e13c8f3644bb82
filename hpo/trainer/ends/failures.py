"""The text of an exception that user code raised: bounded, and there even if the exception cannot be shown."""

from __future__ import annotations

import traceback

from objectives.values import shortened, text, type_name

MOST_MESSAGE = 400
"""Largest number of characters of a message."""
MOST_TRACEBACK = 32_000
"""Largest number of characters of a traceback."""


def message_of(error: BaseException) -> str:
    """Return the exception's own text on one line; empty if it has none."""
    try:
        # Only as much as is kept: the text may have megabytes.
        shown = str.__str__(str(error))[: 10 * MOST_MESSAGE]
    except BaseException as exc:  # noqa: BLE001 - `__str__` of user code may raise anything
        return f"its text cannot be shown: __str__ raised {type_name(exc)}"
    return text(" ".join(shown.split())[:MOST_MESSAGE])


def one_line(error: BaseException) -> str:
    """Return the exception's class and text on one line."""
    name, message = " ".join(type_name(error).split())[:MOST_MESSAGE], message_of(error)
    return f"{name}: {message}" if message else name


def traceback_of(error: BaseException) -> str:
    """Return the exception's traceback, without its middle if it is long."""
    try:
        formatted = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - user code may have broken the exception in any way
        formatted = f"{one_line(error)}\n"
    return text(shortened(formatted, MOST_TRACEBACK))
