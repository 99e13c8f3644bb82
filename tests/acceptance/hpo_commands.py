"""The processes that fork `hpo` commands: one for most, and one for those that draw charts or serve pages.

The latter's modules take three times as long to import, and each of its forks costs more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance.fork_server import SPARES, ForkedCommand, ForkServer

MODULES = (
    "hpo.cli.commands.run.launch",
    "hpo.agent.launch",
    "hpo.retrain.retrain",
    "hpo.study.monitoring.status",
    "hpo.study.results.trials",
    SPARES,
    # Optuna and SQLAlchemy import these when they open a database.
    *(
        "alembic.command",
        "optuna.storages._rdb.models",
        "sqlalchemy.dialects.postgresql.psycopg2",
        "psycopg2",
    ),
    *("numpy.random", "yaml"),
)
DRAWING = ("report", "dashboard", "data")
DRAWING_MODULES = (
    *("hpo.report.study_report", "optuna.importance", "scipy.stats", "optuna_dashboard"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)


class HpoCommands:
    """Forks commands for one test process, with the interface of `ForkServer`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of the run."""
        self._folder = folder
        self._servers: dict[bool, ForkServer] = {}

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        outputs: tuple[Path, Path],
    ) -> ForkedCommand:
        draws = arguments[1] == "hpo.cli" and arguments[2] in DRAWING if len(arguments) > 2 else False
        if draws not in self._servers:
            modules = (*MODULES, *DRAWING_MODULES) if draws else MODULES
            self._servers[draws] = ForkServer(modules, self._folder)
        return self._servers[draws].start(arguments, environment, cwd, outputs)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
