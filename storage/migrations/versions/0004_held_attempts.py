"""Attempts of a paused study note since when their trainers wait, and how long they have waited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "attempts",
        sa.Column(
            "held_at", sa.DateTime(timezone=True), comment="since when its trainer waits in a paused study"
        ),
        schema="hpo",
    )
    op.add_column(
        "attempts",
        sa.Column("held_seconds", sa.Double, comment="seconds that its trainer waited in earlier pauses"),
        schema="hpo",
    )
