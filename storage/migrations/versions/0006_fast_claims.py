"""Indexes by which a claim and a decision take as long in a study of many trials as in one of few."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_trials_open",
        "trials",
        ["study_id", "ordinal"],
        schema="hpo",
        postgresql_where=sa.text("outcome IS NULL AND paused_epoch IS NULL"),
    )
    op.create_index("ix_trials_decided_at", "trials", ["study_id", "decided_at"], schema="hpo")
    op.create_index(
        "ix_trials_value",
        "trials",
        ["study_id", "value"],
        schema="hpo",
        postgresql_where=sa.text("outcome = 'complete'"),
    )
    op.alter_column(
        "studies", "agents_seen", comment="agents that have joined, which numbers them", schema="hpo"
    )
