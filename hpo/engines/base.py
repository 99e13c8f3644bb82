"""Where the agents of `hpo launch` run: an engine makes or continues the study and places its agents."""

from __future__ import annotations

from typing import Protocol

from hpo.options import LaunchRequest
from hpo.settings import Settings


class Engine(Protocol):
    """A place for agents; the study, its leases and its books are the same in every one."""

    def launch(self, request: LaunchRequest, settings: Settings) -> int:
        """Run the study until its budget is spent or it is told to stop; returns the exit code.

        Raises:
            HpoError: whatever is wrong with the request, the objective, the database or the place.
        """


def engine_called(name: str) -> Engine:
    """The engine of one of `hpo.options.ENGINES`."""
    if name == "ray":
        from hpo.engines.ray import RayEngine

        return RayEngine()
    from hpo.engines.local import LocalEngine

    return LocalEngine()
