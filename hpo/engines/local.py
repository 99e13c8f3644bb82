"""The local engine: the process that you start is the agent."""

from __future__ import annotations

from hpo.options import LaunchRequest
from hpo.settings import Settings


class LocalEngine:
    """Runs one agent with all slots in this process; `hpo worker` adds more agents."""

    def launch(self, request: LaunchRequest, settings: Settings) -> int:
        from hpo.agent.launch import launch

        return launch(request, settings)
