"""Freeze-thaw: scores of trials at rungs, and the rungs at which trials are paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rungs",
        sa.Column("reservation_id", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False, comment="after which freeze-thaw compares trials"),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column(
            "score",
            sa.Double,
            nullable=False,
            comment="value up to that epoch, negated if larger is better; infinity: not finite",
        ),
        sa.PrimaryKeyConstraint("reservation_id", "epoch", name="pk_rungs"),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["hpo.trials.reservation_id"],
            name="fk_rungs_reservation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["hpo.studies.study_id"], name="fk_rungs_study_id", ondelete="CASCADE"
        ),
        schema="hpo",
    )
    op.create_index(
        "ix_rungs_study_id", "rungs", ["study_id", "epoch", "score", "reservation_id"], schema="hpo"
    )
    for column in (
        sa.Column(
            "paused_epoch",
            sa.Integer,
            comment="epoch of the rung at which freeze-thaw has paused it; null: it goes on",
        ),
        sa.Column("paused_score", sa.Double, comment="its score at that rung, as in rungs"),
    ):
        op.add_column("trials", column, schema="hpo")
    op.create_index("ix_trials_ordinal", "trials", ["study_id", "ordinal"], schema="hpo")
    op.create_index(
        "ix_trials_paused",
        "trials",
        ["study_id", "paused_epoch", "paused_score", "reservation_id"],
        schema="hpo",
        postgresql_where=sa.text("paused_epoch IS NOT NULL AND outcome IS NULL"),
    )
