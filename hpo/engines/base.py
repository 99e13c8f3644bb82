"""The choice of an engine, which creates or continues a study and places the agents of `hpo launch`.

The study and its leases in the database are the same for all engines.
"""

from __future__ import annotations

import logging

from hpo import formatting
from hpo.options.launch_request import LaunchRequest
from hpo.settings import Settings

log = logging.getLogger(__name__)


def launch(request: LaunchRequest, settings: Settings) -> int:
    """Run the study until its budget is spent or it is stopped; return the exit code.

    Raises:
        HpoError: an error of the request, the objective, the database or the engine.
    """
    if request.timeout_seconds is not None and request.run:
        limit = formatting.duration(request.timeout_seconds)
        log.info(f"--timeout: this launch ends {limit} after the objective is loaded")
    # Without a run it does not matter where agents would be.
    if request.engine == "ray" and request.run:
        from hpo.engines.ray import launch as launch_in_cluster

        return launch_in_cluster(request, settings)
    from hpo.agent.launch import launch as launch_here

    return launch_here(request, settings)
