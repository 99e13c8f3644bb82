"""The script of the compose file that creates the role of its containers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from hpo.errors import StorageUnreachableError
from storage.embedded import paths
from storage.embedded.server import EmbeddedServer
from storage.opening import open_database

SCRIPT = Path(__file__).parents[3] / "examples" / "postgres-role.sh"


def test_role_owns_its_database_and_nothing_else(postgres_server: EmbeddedServer, open_folder: Path) -> None:
    name = f"role{os.getpid()}"
    statements = re.sub(r"\bhpo\b", name, SCRIPT.read_text()).replace("optuna", f"{name}_user")
    script = open_folder / "role.sh"
    # The superuser of the suite's server keeps its rights.
    script.write_text(statements.replace("ALTER ROLE CURRENT_USER PASSWORD NULL;", ""))
    server = postgres_server.place
    programs = paths.programs(postgres_server._root_base)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PGHOST": str(server.sockets),
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": name,
        "POSTGRES_PASSWORD": "it's $odd",
    }
    admin = create_engine(postgres_server.url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            subprocess.run(["sh", str(script)], env=environment, check=True)
            url = make_url(postgres_server.url).set(username=f"{name}_user", database=name)
            with open_database(url.render_as_string(hide_password=False), Path("unused")) as database:
                assert database.optuna.get_all_studies() == []
                query = text(
                    "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = :n"
                )
                with database.engine.connect() as own:
                    assert own.scalar(query, {"n": f"{name}_user"}) is False
            connection.execute(text("CREATE ROLE stranger LOGIN"))
            stranger = url.set(username="stranger").render_as_string(hide_password=False)
            with pytest.raises(StorageUnreachableError, match="permission denied"):
                open_database(stranger, Path("unused"))
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(text(f"DROP ROLE IF EXISTS {name}_user, stranger"))
    admin.dispose()
