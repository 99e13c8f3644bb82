"""The engine of one host: the process that the user started is the agent."""

from __future__ import annotations

from hpo.options import LaunchRequest
from hpo.settings import Settings


class LocalEngine:
    """Runs one agent, here, with all the slots; `hpo worker` adds others by hand."""

    def launch(self, request: LaunchRequest, settings: Settings) -> int:
        from hpo.agent.launch import launch

        return launch(request, settings)
