"""Requests for processes that a template forks: as many at a time as its pipe holds, again if the template has died."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from multiprocessing.connection import Connection

from hpo.process.process_groups import kill_group
from hpo.trainer.pooled_process import PooledProcess
from hpo.trainer.template.current import MOST_UNANSWERED, CurrentTemplate
from hpo.trainer.template.messages import Forked


class Requests:
    """The requests of a pool for its `processes`, in their order."""

    def __init__(
        self,
        template: CurrentTemplate,
        processes: Callable[[], Sequence[PooledProcess]],
        template_lost: Callable[[], None],
    ) -> None:
        self._template = template
        self._processes = processes
        self._template_lost = template_lost
        self._serials = count()
        # Serials of processes that were killed before their ids were known.
        self._abandoned: set[int] = set()

    def serial(self) -> int:
        """Return the number of the next request."""
        return next(self._serials)

    def proceed(self) -> None:
        """Request processes from the template in the order of their starts, as many as may be unanswered."""
        if self._template.importing:
            return
        unanswered = len(self._abandoned) + sum(one.unanswered for one in self._processes())
        for process in self._processes():
            if unanswered >= MOST_UNANSWERED:
                return
            if process.request_end is not None:
                self._request(process, process.request_end)
                unanswered += 1

    def _request(self, process: PooledProcess, theirs: Connection) -> None:
        """Request a process from the template, and start another template if it has died."""
        with theirs:
            for attempt in (1, 2):
                try:
                    self._template.request(process.fork, theirs)
                    break
                except OSError:
                    if attempt == 1:
                        self.lose_template()
        process.request_end = None
        process.begin()

    def abandon(self, process: PooledProcess) -> None:
        """Kill a process, now or as soon as its id is known, and close its pipe."""
        if process.unanswered:
            self._abandoned.add(process.fork.serial)
        elif process.status is None:
            process.kill()
        process.close()

    def note_forked(self, message: Forked) -> None:
        if message.serial in self._abandoned:
            self._abandoned.discard(message.serial)
            kill_group(message.pid)
        for process in self.of_serial(message.serial):
            process.pid = message.pid

    def note_refused(self, serial: int) -> None:
        """Note that a request was answered, but not fulfilled."""
        self._abandoned.discard(serial)

    def of_serial(self, serial: int) -> Iterable[PooledProcess]:
        """Return the process of a request, unless it was abandoned."""
        return [one for one in self._processes() if one.fork.serial == serial]

    def lose_template(self) -> None:
        """Start another template; running processes continue without one.

        Raises:
            ObjectiveBrokenError: too many templates have died.
        """
        self._template_lost()
        has_requests = any(process.unanswered for process in self._processes())
        for process in self._processes():
            # The next template gets the requests that this one has not got.
            process.orphan = process.orphan or process.request_end is None
        self._abandoned.clear()
        self._template.replace_dead(has_requests=has_requests)
