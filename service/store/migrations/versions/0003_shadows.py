"""Add the table of shadow verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From the revision before."""
    op.create_table(
        "shadows",
        sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("shadow", sa.String(40), primary_key=True),
        sa.Column("attempts", sa.String(64), primary_key=True),
        sa.Column("profile", sa.String(64), nullable=False, index=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("live_outcome", sa.String(24), nullable=False),
        sa.Column("outcome", sa.String(24), nullable=False),
        sa.Column("failed", sa.Boolean(), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
    )
