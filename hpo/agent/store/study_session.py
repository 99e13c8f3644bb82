"""Transactions and calls of one agent, which outlast an outage and end with a line if the study is gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from optuna.exceptions import UpdateFinishedTrialError

from hpo.errors import HpoError, StudyConflictError, StudyLostError
from hpo.process.identity import host_name, process_identity
from storage import agents
from storage.agents import Presence
from storage.connection.retry import Retry
from storage.engine import Connection, Database
from storage.studies import names

T = TypeVar("T")
P = ParamSpec("P")


class StudySession:
    """An agent's connection to the database of its study."""

    def __init__(self, database: Database, study_id: int, name: str, retry: Retry) -> None:
        self._database = database
        self._study_id = study_id
        self._name = name
        self._retry = retry
        self._agent_id = 0
        self._joined: Presence | None = None

    def join(self, slots: int, versions: Mapping[str, str], lease_seconds: float) -> int:
        """Join the study as an agent; return its id. From now on the study must stay in the database.

        Raises:
            StudyConflictError: the study was renamed meanwhile.
        """
        agent_id = self.write(agents.new_agent_id)
        agent = (host_name(), os.getpid(), process_identity(), slots, versions)

        def join(c: Connection) -> None:
            agents.join(c, agent_id, self._study_id, *agent, lease_seconds=lease_seconds)
            current = names(c).get(self._study_id)
            if current not in (None, self._name):
                raise StudyConflictError(
                    f"study {self._name!r} was renamed meanwhile: continue it with hpo launch --study {current}"
                )

        self.write(join)
        self._agent_id = agent_id
        self._joined = self.write(self.presence)
        return agent_id

    def presence(self, connection: Connection) -> Presence:
        return agents.presence(connection, self._agent_id, process_identity(), self._study_id)

    def check(self, present: Presence) -> None:
        if self._joined in (None, present):
            return
        if present.agents_table == self._joined.agents_table:
            raise StudyLostError(
                f"study {self._name!r} was deleted with plain Optuna while this agent trained it: remove the rest with"
                f" hpo delete --study {self._name}"
            )
        raise StudyLostError(
            f"study {self._name!r} was deleted, or its database was replaced, while this agent trained it: its running"
            " trials are not recorded; hpo ls lists the studies, and hpo launch continues one or begins again"
        )

    def _explained(self, call: Callable[[], T]) -> T:
        """Return the result of a call; where the study is gone, every error is a consequence of that.

        Raises:
            StudyLostError: the study is gone.
        """
        try:
            return call()
        except (HpoError, UpdateFinishedTrialError):
            raise
        except Exception:
            if self._joined is not None:
                self.check(self._database.transaction(self.presence, self._retry))
            raise

    def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._explained(
            lambda: self._database.transaction(lambda c: work(c, *args, **kwargs), self._retry)
        )

    def statement(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Write as `write` does where `work` is a single statement."""
        return self._explained(
            lambda: self._database.statement(lambda c: work(c, *args, **kwargs), self._retry)
        )

    def call(self, call: Callable[[], T]) -> T:
        return self._explained(lambda: self._database.retried(call, self._retry))
