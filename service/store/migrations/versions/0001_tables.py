"""The tables as they were before revisions existed, when each start created the missing ones.

They are defined here and not taken from `service.store.tables`, which changes. A database of that time is recognised by
them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateIndex, CreateTable

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)
COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = sa.MetaData()

sa.Table(
    "cases",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("profile", sa.String(64), nullable=False),
    sa.Column("status", sa.String(24), nullable=False, index=True),
    sa.Column("client_reference_id", sa.String(255), index=True),
    sa.Column("key_id", sa.String(64), nullable=False, index=True),
    sa.Column("data_key", sa.LargeBinary()),
    sa.Column("case_metadata", sa.LargeBinary(), nullable=False),
    sa.Column("challenge", sa.JSON(), nullable=False),
    sa.Column("max_attempts", sa.Integer(), nullable=False),
    sa.Column("steps", sa.LargeBinary(), nullable=False),
    sa.Column("checks", sa.LargeBinary(), nullable=False),
    sa.Column("recorded", sa.LargeBinary()),
    sa.Column("outcome", sa.String(24), index=True),
    sa.Column("created_at", MOMENT, nullable=False, index=True),
    sa.Column("updated_at", MOMENT, nullable=False),
    sa.Column("expires_at", MOMENT, nullable=False),
    sa.Column("last_received_at", MOMENT),
    sa.Column("cell", sa.String(64), nullable=False),
    sa.Column("replica", sa.String(40), nullable=False, index=True),
    sa.Column("erased_at", MOMENT),
)
sa.Table(
    "api_keys",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("scopes", sa.JSON(), nullable=False),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("expires_at", MOMENT),
    sa.Column("revoked_at", MOMENT),
)
sa.Table(
    "replicas",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("seen_at", MOMENT, nullable=False),
)
sa.Table(
    "uploads",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("evidence_key", sa.String(200), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("info", sa.LargeBinary(), nullable=False),
    sa.Column("received_at", MOMENT, nullable=False),
    sa.UniqueConstraint("case_id", "step", "attempt"),
)
sa.Table(
    "resumable_uploads",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("step", sa.String(16), nullable=False),
    sa.Column("media_type", sa.String(64), nullable=False),
    sa.Column("length", sa.BigInteger(), nullable=False),
    sa.Column("offset", sa.BigInteger(), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("expires_at", MOMENT, nullable=False, index=True),
    sa.Column("ended_at", MOMENT),
)
sa.Table(
    "upload_pieces",
    TABLES,
    sa.Column("upload_id", sa.String(40), sa.ForeignKey("resumable_uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("start", sa.BigInteger(), primary_key=True),
    sa.Column("evidence_key", sa.String(200), nullable=False),
)
sa.Table(
    "events",
    TABLES,
    sa.Column("id", COUNTED, primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("type", sa.String(24), nullable=False),
    sa.Column("once", sa.String(100)),
    sa.Column("data", sa.LargeBinary(), nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.UniqueConstraint("case_id", "once"),
    sqlite_autoincrement=True,
)
sa.Table(
    "audit",
    TABLES,
    sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("case_id", sa.String(40), index=True),
    sa.Column("details", sa.JSON(), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
sa.Table(
    "audit_head",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger(), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
sa.Table(
    "requests",
    TABLES,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), nullable=False),
    sa.Column("answer", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
)
sa.Table(
    "webhook_endpoints",
    TABLES,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("url", sa.Text(), nullable=False),
    sa.Column("events", sa.JSON()),
    sa.Column("description", sa.String(255)),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("data_key", sa.LargeBinary(), nullable=False),
    sa.Column("secret", sa.LargeBinary(), nullable=False),
    sa.Column("previous_secret", sa.LargeBinary()),
    sa.Column("previous_until", MOMENT),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("disabled_at", MOMENT),
)
sa.Table(
    "webhook_deliveries",
    TABLES,
    sa.Column("position", COUNTED, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(40), nullable=False, unique=True),
    sa.Column("endpoint_id", sa.String(40), sa.ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    sa.Column("case_id", sa.String(40), sa.ForeignKey("cases.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("body", sa.Text(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("last_status", sa.Integer()),
    sa.Column("last_error", sa.String(40)),
    sa.Column("attempted_at", MOMENT),
    sa.Column("next_at", MOMENT),
    sa.Column("claimed_until", MOMENT),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("ended_at", MOMENT),
    sa.Index("webhook_deliveries_in_order", "endpoint_id", "case_id", "position"),
    sa.Index("webhook_deliveries_log", "endpoint_id", "position"),
    sa.Index("webhook_deliveries_due", "endpoint_id", "state", "next_at"),
    sqlite_autoincrement=True,
)

_REFUSAL = "the table audit is append-only"
_TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER audit_{does.lower()} BEFORE {does} ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for does in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        f"CREATE FUNCTION audit_append_only() RETURNS trigger AS $$ BEGIN RAISE '{_REFUSAL}'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ],
}


def upgrade() -> None:
    """From an empty database."""
    for table in TABLES.sorted_tables:
        op.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(index))
    for trigger in _TRIGGERS[op.get_context().dialect.name]:
        op.execute(trigger)
