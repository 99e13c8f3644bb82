"""Columns get the names of their contents; parameters keep the order of the space, which `jsonb` loses."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RENAMED = (
    ("studies", "control", "desired_state"),
    ("studies", "mark", "uid"),
    ("trials", "token", "reservation_id"),
    ("trials", "told", "told_optuna"),
    ("attempts", "token", "reservation_id"),
    ("epochs", "token", "reservation_id"),
)


def upgrade() -> None:
    constraints = set(
        op.get_bind()
        .execute(text("SELECT conname FROM pg_constraint WHERE connamespace = 'hpo'::regnamespace"))
        .scalars()
    )
    for table, old, new in RENAMED:
        op.alter_column(table, old, new_column_name=new, schema="hpo")
        # NOT NULL is a named constraint since PostgreSQL 18.
        for name in {f"fk_{table}_{old}", f"{table}_{old}_not_null"} & constraints:
            op.execute(f"ALTER TABLE hpo.{table} RENAME CONSTRAINT {name} TO {name.replace(old, new)}")
    for table, column in (("studies", "spec"), ("trials", "params"), ("retrains", "config")):
        op.execute(f"ALTER TABLE hpo.{table} ALTER COLUMN {column} TYPE json USING {column}::json")
    op.execute("COMMENT ON COLUMN hpo.studies.spec IS 'hpo.search.spec.StudySpec as JSON'")
