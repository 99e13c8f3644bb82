"""Errors as lines on stderr, without passwords, and the file with a bug's traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from hpo.errors import HpoError

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
"""141 is 128 + SIGPIPE, the exit code of a program that a closed pipe ended."""


def message(error: HpoError) -> str:
    text = one_line(str(error))
    return text or one_line((type(error).__doc__ or type(error).__name__).splitlines()[0])


def one_line(text: str) -> str:
    from hpo.formatting import printable

    return printable(" ".join(text.split()))


def print_error(message: str, arguments: Sequence[str]) -> None:
    from hpo.terminal.columns import fitted

    click.echo(fitted(without_passwords(f"hpo: {message}", arguments), sys.stderr), err=True)


def print_redacted(text: str, arguments: Sequence[str]) -> None:
    click.echo(without_passwords(text, arguments), err=True)


def without_passwords(text: str, arguments: Sequence[str]) -> str:
    """Remove the passwords given to this process from a text, and other texts that look like one."""
    from storage.redaction import passwords_given, redacted

    return redacted(text, passwords_given(arguments, os.environ))


def is_of_deleted_folder(error: Exception) -> bool:
    """Return whether an error is that of a working directory that is deleted."""
    if not isinstance(error, FileNotFoundError):
        return False
    try:
        os.getcwd()  # noqa: PTH109 - no other module is needed
    except FileNotFoundError:
        return True
    return False


def bug(error: Exception, arguments: Sequence[str]) -> int:
    if os.environ.get("HPO_DEBUG") == "1":
        print_redacted("".join(traceback.format_exception(error)).rstrip(), arguments)
    print_error(bug_message(error, arguments), arguments)
    return EXIT_ERROR


def bug_message(error: Exception, arguments: Sequence[str]) -> str:
    """Return the message of an unforeseen error, whose traceback is written to a file unless it is printed."""
    summary = one_line(f"{type(error).__name__}: {error}")
    if os.environ.get("HPO_DEBUG") == "1":
        return f"{summary} — this is a bug"
    return f"{summary} — this is a bug; its traceback is in {_write_crash(error, arguments)}"


def _write_crash(error: Exception, arguments: Sequence[str]) -> str:
    """Write the traceback to the home, or to the temporary folder if that is not writable, and return the path."""
    import tempfile
    import time
    from pathlib import Path

    from hpo.ownership import make_private_folder
    from hpo.settings import Settings

    text = f"hpo {' '.join(arguments)}\n\n{''.join(traceback.format_exception(error))}"
    prefix = time.strftime("hpo-%Y%m%d-%H%M%S-")
    folders = [Path(tempfile.gettempdir())]
    with suppress(HpoError):
        folders.insert(0, Settings.from_environment().home / "crashes")
    for folder in folders:
        try:
            make_private_folder(folder)
            # A new file, which only its user can read, under a name that nobody can predict.
            descriptor, path = tempfile.mkstemp(prefix=prefix, suffix=".txt", dir=folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(without_passwords(text, arguments))
        except OSError:
            continue
        return path
    return "no file: neither the home nor the temporary folder is writable (set HPO_DEBUG=1 to print it)"
