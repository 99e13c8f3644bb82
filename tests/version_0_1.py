"""What version 0.1 wrote, from `tests/data/v0.1`: later versions must read it."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

FOLDER = Path(__file__).parent / "data" / "v0.1"
"""It is also the folder of the user's objectives, which the studies name as `user_objectives:Class`."""

EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
"""What the commands of version 0.1 printed with `--json`: of all studies, and of each."""

STUDIES: dict[str, dict[str, Any]] = EXPECTED["studies"]


def read_json(name: str) -> Any:
    """One of the JSON files."""
    return json.loads((FOLDER / name).read_text())


def load_dump(url: str) -> None:
    """Fill an empty database with the tables and the studies of version 0.1."""
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
    """Put the checkpoints of version 0.1 where a service looks for them."""
    shutil.copytree(FOLDER / "checkpoints", folder)


def interrupted_trial(study: str) -> tuple[int, int]:
    """The number of the study's one trial that was interrupted, and its epochs until then."""
    ((number, epochs),) = [
        (trial["number"], trial["epochs"])
        for trial in STUDIES[study]["trials"]
        if trial["state"] == "waiting" and trial["epochs"] > 0
    ]
    return number, epochs
