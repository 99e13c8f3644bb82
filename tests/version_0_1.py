"""Files of version 0.1 (`tests/data/v0.1`), which later versions must read."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

FOLDER = Path(__file__).parent / "data" / "v0.1"
"""Folder of the files; also of the objectives that the studies name as `user_objectives:Class`."""

EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
"""Output of version 0.1's commands with `--json`: for all studies, and for each."""

STUDIES: dict[str, dict[str, Any]] = EXPECTED["studies"]


def read_json(name: str) -> Any:
    """Return the content of a JSON file."""
    return json.loads((FOLDER / name).read_text())


def load_dump(url: str) -> None:
    """Fill an empty database with the tables and studies of version 0.1."""
    sql = lzma.decompress((FOLDER / "database.sql.xz").read_bytes()).decode()
    engine = create_engine(url, poolclass=NullPool)
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(sql)
        connection.commit()
    finally:
        connection.close()
        engine.dispose()


def copy_checkpoints(folder: Path) -> None:
    """Copy the checkpoints of version 0.1 to a service's folder."""
    shutil.copytree(FOLDER / "checkpoints", folder)


def interrupted_trial(study: str) -> tuple[int, int]:
    """Return the number of the study's interrupted trial, and the epochs that it had completed."""
    ((number, epochs),) = [
        (trial["number"], trial["epochs"])
        for trial in STUDIES[study]["trials"]
        if trial["state"] == "waiting" and trial["epochs"] > 0
    ]
    return number, epochs
