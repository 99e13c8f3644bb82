"""The choice of an engine, which creates or continues a study and places the agents of `hpo launch`.

The study and its leases in the database are the same for all engines.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext, suppress

from hpo import formatting
from hpo.devices.backends import choose_backend
from hpo.errors import HpoError
from hpo.options.launch_request import LaunchRequest
from hpo.options.study_name import check_study_name
from hpo.settings import Settings
from hpo.trainer.template.early import EarlyTemplate
from hpo.trainer.template.interpreter import template_log
from storage.embedded import paths

log = logging.getLogger(__name__)


def launch(request: LaunchRequest, settings: Settings) -> int:
    """Run the study until its budget is spent or it is stopped; return the exit code.

    Raises:
        HpoError: an error of the request, the objective, the database or the engine.
    """
    if request.timeout_seconds is not None and request.run:
        limit = formatting.duration(request.timeout_seconds)
        log.info(f"--timeout: this launch ends {limit} after the objective is loaded")
    choose_backend(request.agent.backend)
    # Without a run it does not matter where agents would be.
    if request.engine == "ray" and request.run:
        from hpo.engines.ray import launch as launch_in_cluster

        return launch_in_cluster(request, settings)
    with _early_template(request.study, settings) if request.run else nullcontext() as early:
        from hpo.agent.launch import launch as launch_here

        return launch_here(request, settings, early)


def _early_template(study: str, settings: Settings) -> AbstractContextManager[EarlyTemplate | None]:
    """Start the template before this process imports the agent's modules, if that is possible already."""
    # The launch reports errors, and starts the template itself.
    with suppress(HpoError, OSError):
        check_study_name(study)
        if settings.storage is not None:
            settings.make_home()
        elif paths.disabled():
            return nullcontext()
        else:
            paths.make_home(settings.home)
        return EarlyTemplate(template_log(study, settings.home))
    return nullcontext()
