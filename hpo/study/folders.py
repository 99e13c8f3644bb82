"""Folders of a study on this host, whose names begin with the study's: moved when it was renamed.

The database holds the former names, so a host that was off finds its folders when it next works for the study.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import FileNotWritableError, StudyDamagedError
from hpo.files.lock import exclusive_lock
from storage import studies

if TYPE_CHECKING:
    from storage.engine import Database
    from storage.studies import StoredStudy


DEFINED = "objectives"
"""Folder in the home of the objectives that were defined in Python, and not in a file."""


def is_defined(reference: str, home: Path | None = None) -> bool:
    """Return whether a study's reference names an objective that was defined in Python, in any home or in this one."""
    path = Path(reference.rpartition(":")[0])
    # The database names it, and its folder is written and deleted.
    found = path.name == "objective.py" and path.parent.parent.name == DEFINED and ".." not in path.parts
    return found and (home is None or path.parent.parent == (home / DEFINED).resolve())


def objective_of(database: Database, study: str) -> str:
    """Return the reference of a study's objective; empty if its spec is damaged."""
    found = database.transaction(lambda c: studies.find(c, study, damaged=True))
    spec: object = found.spec_json if found is not None else None
    reference = spec.get("objective") if isinstance(spec, Mapping) else None
    return reference if isinstance(reference, str) else ""


def remove_defined(database: Database, reference: str, home: Path) -> None:
    """Remove an objective that was defined in Python, unless another study, such as a copy, has it too."""
    if not is_defined(reference, home):
        return
    names = database.transaction(studies.names).values()
    if not any(objective_of(database, name) == reference for name in names):
        shutil.rmtree(Path(reference.rpartition(":")[0]).parent, ignore_errors=True)


def move_former(database: Database, study: StoredStudy, parents: Iterable[Path]) -> None:
    """Give the study's folder in each of `parents` its present name, if the study has been renamed.

    Raises:
        FileNotWritableError: a folder cannot be moved.
    """
    former = database.transaction(lambda c: studies.former_names(c, study.study_id))
    for parent in parents:
        folder = parent / study.folder
        for name in reversed(former):
            # Programs that use Optuna may write anything.
            with suppress(StudyDamagedError):
                source = parent / studies.folder_name(name, study.uid)
                if not folder.exists() and source.is_dir():
                    _move_once(source, folder)


def _move_once(source: Path, target: Path) -> None:
    try:
        move([(source, target)])
    except FileNotWritableError:
        # Another process of this host may have moved it at the same moment.
        if not target.exists():
            raise


def move(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Rename all of the folders, or none.

    Raises:
        FileNotWritableError: one cannot be renamed.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in pairs:
            if target.exists():
                raise FileExistsError(None, f"{target} exists")
            source.rename(target)
            moved.append((source, target))
    except OSError as exc:
        for former, present in reversed(moved):
            present.rename(former)
        raise FileNotWritableError(
            f"cannot rename the folder {source} to {target.name} ({exc.strerror}): correct that, and run the same"
            " command again"
        ) from exc


@contextmanager
def without_retrains(folder: Path, study: str) -> Iterator[None]:
    """Hold the locks of the retrains whose checkpoints lie in a folder.

    Raises:
        RetrainRunningError: one is running on this host.
    """
    with ExitStack() as stack:
        for lock in sorted(folder.glob("*/lock")):
            stack.enter_context(exclusive_lock(lock.parent, study))
        yield
