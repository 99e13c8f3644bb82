"""Add the start of the failure count and the mark of a study, and the lease duration of an agent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MARK = sa.text("substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)")


def upgrade() -> None:
    op.add_column(
        "studies",
        sa.Column(
            "failures_since",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("clock_timestamp()"),
            comment="trials that failed from then on count towards max_failed",
        ),
        schema="hpo",
    )
    # Studies that are there have none, for their checkpoints lie in a folder that is called as they are.
    op.add_column(
        "studies",
        sa.Column(
            "mark",
            sa.Text,
            nullable=False,
            server_default="",
            comment="tells studies of one name apart, in folders",
        ),
        schema="hpo",
    )
    op.alter_column("studies", "mark", server_default=MARK, schema="hpo")
    op.add_column(
        "agents",
        sa.Column(
            "lease_seconds",
            sa.Double,
            comment="how long its leases are; renewed twelve times in that time. Null: not known",
        ),
        schema="hpo",
    )
