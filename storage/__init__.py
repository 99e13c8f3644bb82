"""The one database engine: PostgreSQL, embedded or by URL, and the project's own tables in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        from hpo.package_names import of_user

        return of_user(__name__, name)
