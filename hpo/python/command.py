"""The caller's end of a command that runs for a call from Python: its process, its interruption and its errors.

Agents are processes of their own: a notebook's process has threads and frameworks, and must not be forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO

import hpo.errors
from hpo.errors import HpoError
from hpo.process.signals import INTERRUPTED
from hpo.python.display import Display, open_display
from hpo.python.messages import INTERRUPT, Closed, Ended, Failed, Line, decode
from hpo.settings import Settings
from hpo.terminal.progress import View

MOST_INTERRUPTS = 2
"""Number of interrupts that the command handles; the next one kills it."""

_ERROR_CHARACTERS = 500


def run_command(arguments: Sequence[str], settings: Settings) -> None:
    """Run a command to its end and show its progress.

    Raises:
        HpoError: the error of the command.
        KeyboardInterrupt: it was interrupted; its trials or runs have been released.
    """
    environment = {**os.environ}
    if settings.storage is not None:
        # Not an argument, which every user of the machine can read.
        environment["HPO_STORAGE"] = settings.storage
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            # -P: a folder named `hpo` in the working directory must not shadow ours.
            [sys.executable, "-P", "-m", "hpo.python.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            # An interrupt of the terminal or notebook comes through this process, once.
            start_new_session=True,
        )
        with process, _interrupting(process):
            failed = _show(process)
            code = process.wait()
        if failed is not None:
            raise _error(failed)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise HpoError(_describe_end(arguments[0], code, errors))


def _show(process: subprocess.Popen[bytes]) -> Failed | None:
    """Show the messages of a command until it closes its pipe; return its error."""
    assert process.stdout is not None
    failed: Failed | None = None
    display: Display = open_display()
    try:
        for line in process.stdout:
            match decode(line):
                case Line(text):
                    display.line(text)
                case View() as view:
                    display.update(view)
                case Ended(trial, counts):
                    display.trial_ended(trial, counts)
                case Closed():
                    display.close()
                case Failed() as message:
                    failed = message
    finally:
        display.close()
    return failed


@contextmanager
def _interrupting(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass interrupts on to a command instead of raising KeyboardInterrupt, and end it if the block raises.

    Python runs signal handlers in the main thread only.
    """
    assert process.stdin is not None
    pipe = process.stdin
    interrupts = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > MOST_INTERRUPTS:
            process.kill()
            return
        with suppress(OSError, ValueError):
            os.write(pipe.fileno(), INTERRUPT)

    handled = threading.current_thread() is threading.main_thread()
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    before = signal.signal(signal.SIGINT, interrupt) if handled and not ignored else None
    try:
        yield
    finally:
        # It ends by itself once this pipe is closed, if it has not yet.
        pipe.close()
        process.wait()
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _error(failed: Failed) -> HpoError:
    cls = getattr(hpo.errors, failed.error, None)
    if not (isinstance(cls, type) and issubclass(cls, HpoError)):
        cls = HpoError
    error: HpoError = cls(failed.message)
    for note in failed.notes:
        error.add_note(note)
    return error


def _describe_end(command: str, code: int, errors: IO[bytes]) -> str:
    """Return why a command ended that sent no error."""
    errors.seek(0)
    printed = " ".join(errors.read().decode(errors="replace").split())[-_ERROR_CHARACTERS:]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    shown = f": {printed}" if printed else ": call it again to continue"
    return f"the process of this {command} ended ({how}){shown}"
