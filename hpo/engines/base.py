"""Engines: an engine creates or continues a study and places the agents of `hpo launch`."""

from __future__ import annotations

from typing import Protocol

from hpo.options import LaunchRequest
from hpo.settings import Settings


class Engine(Protocol):
    """A way to place agents; the study and its leases in the database are the same for all engines."""

    def launch(self, request: LaunchRequest, settings: Settings) -> int:
        """Run the study until its budget is spent or it is stopped; return the exit code.

        Raises:
            HpoError: an error of the request, the objective, the database or the engine.
        """


def get_engine(name: str) -> Engine:
    """Return the engine with a name of `hpo.options.ENGINES`."""
    if name == "ray":
        from hpo.engines.ray import RayEngine

        return RayEngine()
    from hpo.engines.local import LocalEngine

    return LocalEngine()
