"""The processes that fork `hpo` commands: one for most, and others for those that need more modules.

Libraries of charts and pages take three times as long to import, and TensorFlow twice; forks of them cost more.
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
    # Each agent, template and trainer imports these, and most commands that read a study.
    *("hpo.engines.base", "hpo.cli.output", "hpo.cli.commands.run.worker", "hpo.cli.commands.run.retrain"),
    *("hpo.trainer.lanes.host", "hpo.trainer.lanes.lane_run", "hpo.study.backup.backup"),
    *("storage.optuna.bulk_storage", "alembic.migration", "psycopg2.extras"),
    "tests.acceptance.warm",
)
TRAINING = ("launch", "worker", "retrain")
KERAS = ("keras", "tensorflow")
DRAWING = ("report", "dashboard", "data")
DRAWING_MODULES = (
    *("hpo.report.study_report", "optuna.importance", "scipy.stats", "optuna_dashboard"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)


class HpoCommands:
    """Forks commands for one test process, with the interface of `ForkServer`."""

    def __init__(self, folder: Path, frameworks: Sequence[str] = ()) -> None:
        """`folder` is that of the run; templates find `frameworks` imported."""
        self._folder = folder
        self._frameworks = tuple(frameworks)
        self._servers: dict[tuple[str, ...], ForkServer] = {}

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        outputs: tuple[Path, Path],
    ) -> ForkedCommand:
        match arguments:
            case ["-m", "hpo.cli", command, *_] if command in DRAWING:
                further = DRAWING_MODULES
            case ["-m", "hpo.cli", command, *_] if command in TRAINING:
                further = self._frameworks
            case _:
                further = ()
        if further not in self._servers:
            self._servers[further] = ForkServer((*MODULES, *further), self._folder)
        return self._servers[further].start(arguments, environment, cwd, outputs)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
