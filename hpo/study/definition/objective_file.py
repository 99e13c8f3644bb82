"""The file of an objective that a study names, which is checked before it is imported unasked."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

from hpo import user_code
from hpo.errors import ObjectiveFileError, UnknownObjectiveError
from hpo.ownership import replaceable_by_others
from hpo.study.folders import is_defined
from objectives import code, loader


def check_objective_file(reference: str, study: str, *, deliberately: str | None = None) -> None:
    """Check that no other user could have written the file that a study names, or a module that it imports.

    Who can write to the database chooses the path, and who can write to the file chooses the code. `deliberately` is
    the command that loads it all the same, by default a launch that names it.

    Raises:
        ObjectiveFileError: another user could have.
        UnknownObjectiveError: there is no such file.
    """
    try:
        source = loader.file_of(reference)
    except UnknownObjectiveError as exc:
        if not is_defined(reference):
            raise
        folder = Path(reference.rpartition(":")[0]).parent
        raise UnknownObjectiveError(
            f"the objective of study {study} was defined in Python, and its folder {folder} is not on this host: copy"
            " it from the host where it was defined to the same path, share HPO_HOME, or call hpo.launch() with it"
            " again"
        ) from exc
    if source is None:
        return
    reason = None
    try:
        for path in _loaded(source):
            reason = reason or replaceable_by_others(path)
    except OSError as exc:
        reason = exc.strerror or str(exc)
    if reason is not None:
        if deliberately is None:
            deliberately = f"hpo launch --study {study} --objective {reference}"
        raise ObjectiveFileError(
            f"the objective of study {study} is not loaded, because other users could have changed it ({reason}): "
            f"correct the owner or the mode, or run it deliberately with {deliberately}"
        )


def _loaded(source: Path) -> Iterator[Path]:
    """Yield the files that an import of `source` runs, the caches of its modules and its packages included."""
    yield source
    packages, folder = [], source.resolve().parent
    while folder != user_code.package_root(source.resolve()):
        packages.append(folder / "__init__.py")
        folder = folder.parent
    for path in dict.fromkeys([*code.files(str(source)).values(), *packages]):
        yield path
        # Processes that a trial starts may read a cache of the file itself; nothing does in a folder such as /tmp.
        if not user_code.is_shared(path.parent):
            cache = Path(cache_from_source(path))
            yield from (found for found in (cache.parent, cache) if found.exists())
