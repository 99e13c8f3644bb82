"""A command that runs for a call from Python: `python -m hpo.python.child launch --study NAME …`.

Standard output carries its messages, standard input its caller's: an `i` interrupts it as Ctrl-C does, and the end
of the caller, which closes the pipe, terminates it.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

import click

import hpo.errors
from hpo.cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, bug_message, message, one_line, without_passwords
from hpo.cli.main import cli
from hpo.errors import HpoError, ObjectiveFailedError, UsageError
from hpo.python.messages import INTERRUPT, Closed, Ended, Failed, Line, Message, encode
from hpo.terminal.log import TerminalFormatter, lines_to
from hpo.terminal.progress import View, progress_by
from hpo.terminal.trial_lines import TrialEnd
from storage.budget import Counts

VIEW_SECONDS = 0.2
"""Shortest time between two views."""

LAST_SECONDS = 5.0
"""Longest time that the last messages may take, which a stopped caller does not read."""


def main() -> int:
    """Run the command in `sys.argv` and return its exit code."""
    sender = Sender(os.fdopen(os.dup(1), "wb"))
    # Whatever else prints must not mix with the messages.
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_listen, name="caller", daemon=True).start()
    with (
        lines_to(lambda line: sender.send(Line(line)), TerminalFormatter()),
        progress_by(lambda: MessageProgress(sender)),
    ):
        code = _run(sys.argv[1:], sender)
    sender.close()
    return code


class Sender:
    """Sends messages from a thread: a caller that does not read them must not stop the command."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="sender", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether all messages so far have been taken."""
        return self._queue.empty()

    def send(self, message: Message) -> None:
        """Send a message; a caller that is gone does not get it."""
        self._queue.put(message)

    def close(self) -> None:
        """Wait until all messages are sent, as long as the caller reads them."""
        self._queue.put(None)
        self._thread.join(LAST_SECONDS)

    def _write(self) -> None:
        with suppress(OSError), self._file:
            while (found := self._queue.get()) is not None:
                self._file.write(encode(found))
                self._file.flush()


class MessageProgress:
    """Progress as messages."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._sent_at = 0.0
        self._unsent: View | None = None

    def update(self, view: View) -> None:
        """Send the view, unless an earlier one is recent or still waits."""
        now = time.monotonic()
        self._unsent = view
        if now - self._sent_at >= VIEW_SECONDS and self._sender.idle:
            self._sent_at = now
            self._send_view()

    def trial_ended(self, trial: TrialEnd, counts: Counts | None) -> None:
        """Send the end of a trial."""
        self._sender.send(Ended(trial, counts))

    def close(self) -> None:
        """Send the last view, and that no further one follows."""
        self._send_view()
        self._sender.send(Closed())

    def _send_view(self) -> None:
        if self._unsent is not None:
            self._sender.send(self._unsent)
            self._unsent = None


def _listen() -> None:
    """Pass the requests of the caller on, and end with it."""
    while request := os.read(0, 1):
        if request == INTERRUPT:
            os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


def _run(arguments: Sequence[str], sender: Sender) -> int:
    """Run a command line; send the error that ends it, with the one-line message of the command line."""

    def fail(error: str, text: str, notes: Sequence[str] = ()) -> int:
        shown = (without_passwords(note, arguments) for note in notes)
        sender.send(Failed(error, without_passwords(text, arguments), tuple(shown)))
        return EXIT_ERROR

    try:
        code = cli.main(list(arguments), prog_name="hpo", standalone_mode=False)
    except HpoError as error:
        traceback = [error.traceback] if isinstance(error, ObjectiveFailedError) and error.traceback else []
        name = next(cls.__name__ for cls in type(error).__mro__ if hasattr(hpo.errors, cls.__name__))
        return fail(name, message(error), [*traceback, *getattr(error, "__notes__", ())])
    except click.ClickException as error:
        text = one_line(error.format_message()).rstrip(".")
        return fail(UsageError.__name__, text)
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - a bug becomes a line here too
        return fail(HpoError.__name__, bug_message(error, arguments))
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
