"""Create the row of the audit log's head with the tables.

Before, the writer of the first line created it. On PostgreSQL two writers could do so at once, and one request failed.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From the revision before. The hash is the one that the first line is chained to."""
    first = "0" * 64
    op.execute(f"INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '{first}') ON CONFLICT (id) DO NOTHING")  # noqa: S608
