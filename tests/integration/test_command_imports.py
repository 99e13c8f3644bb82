"""Heavy modules that commands import: each command is as fast as its own needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from storage.engine import Database
from tests.integration.rows import finished_study

HEAVY = (
    *("alembic", "matplotlib", "numpy", "optuna", "optuna_dashboard", "pandas", "PIL", "plotly", "psycopg2"),
    *("rich", "scipy", "sklearn", "sqlalchemy", "keras", "tensorflow"),
)
LIGHT = (
    *(["--help"], ["launch", "--help"], ["data", "explore", "--help"], ["data", "cache", "--help"]),
    *(["dashboard", "--help"], ["nonsense"]),
)
DATABASE = (
    *(["ls"], ["init"], ["logs", "--study", "demo"], ["tag", "--study", "demo", "night"]),
    *(["note", "--study", "demo", "good"], ["note", "--study", "demo", "--trial", "1", "better"]),
    *(["rename", "--study", "demo", "--as", "other"], ["delete", "--study", "nothing", "--yes"]),
)
OPTUNA = (
    *(["status", "--study", "other"], ["trials", "--study", "other"], ["best", "--study", "other"]),
    *(["kill", "--study", "other", "--trial", "9"],),
    *(["pause", "--study", "other"], ["resume", "--study", "other"], ["stop", "--study", "other"]),
    *(
        ["export", "--study", "other"],
        ["backup", "--study", "other", "-o", "other.hpo.gz"],
        ["objectives"],
        ["doctor"],
    ),
)
STORAGE = (["enqueue", "--study", "other", "--param", "learning_rate=0.1"],)
"""Commands that write through Optuna's storage."""
AGENT = (
    [
        *("launch", "--study", "agent", "--workers", "2", "--trials", "12", "--pruner", "median"),
        *("--objective", f"{Path(__file__).parents[2] / 'bench' / 'idle.py'}:Nothing"),
    ],
)
"""A whole search, of so many trials that its sampler models them."""
PROGRAM = """
import contextlib, io, json, sys
from hpo.cli.main import run
heavy, commands = json.loads(sys.stdin.read())
for command in commands:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(command)
    print(json.dumps([code, [name for name in heavy if name in sys.modules]]))
"""


def test_commands_import_only_what_they_need(database: Database, storage_url: str, tmp_path: Path) -> None:
    """One process runs all, in which modules accumulate: commands that need less come first."""
    finished_study(database)
    kinds = {"light": LIGHT, "database": DATABASE, "optuna": OPTUNA, "storage": STORAGE, "agent": AGENT}
    commands = [command for of_kind in kinds.values() for command in of_kind]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([HEAVY, commands]),
        env=os.environ | {"HPO_STORAGE": storage_url, "HPO_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    results = list(map(json.loads, done.stdout.splitlines()))
    allowed = {"light": set(), "database": {"psycopg2", "sqlalchemy"}}
    allowed["optuna"] = {*allowed["database"], "numpy", "optuna"}
    allowed["storage"] = {*allowed["optuna"], "alembic"}
    allowed["agent"] = {*allowed["storage"], "PIL"}
    for command, (code, found) in zip(commands, results, strict=True):
        kind = next(kind for kind, of_kind in kinds.items() if command in of_kind)
        assert set(found) <= allowed[kind], (command, found)
        assert code == (2 if command[-1] in ("nonsense", "--yes") else 1 if "9" in command else 0), command
