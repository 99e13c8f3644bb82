"""Study names for shell completion: only from a database that answers at once, for a shell waits for them."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from hpo.settings import Settings

CONNECT_SECONDS = 0.3


def study_names_if_near(settings: Settings) -> list[str]:
    """Names of all studies; empty when the database is not up and near. Never starts a server."""
    if not _answers(settings):
        return []
    from hpo.study.catalog import study_names
    from storage.engine import open_database

    try:
        with open_database(settings.storage, settings.home) as database:
            return study_names(database)
    except Exception:  # noqa: BLE001 - a completion that fails must not write into the user's prompt
        return []


def _answers(settings: Settings) -> bool:
    if settings.storage is None:
        if not settings.home.is_dir():
            return False
        from storage.embedded import paths, server

        return server.answers(paths.place(settings.home).socket)
    try:
        url = urlsplit(settings.storage)
        if not url.hostname:
            return url.scheme.startswith("postgres")  # a local socket answers at once or not at all
        with socket.create_connection((url.hostname, url.port or 5432), CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False
