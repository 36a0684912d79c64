"""The tables of the case store: cases, uploads, those that go on after a lost connection, events, requests that may be
repeated, API keys, replicas, webhooks, the audit log.

Columns of bytes are sealed with the data key of their row or case (`service.store.rows` says how each is bound to its
place): who copies the database reads nothing of a person in them. The rest is plain, to be searched and sorted: ids,
status, times, digests, and what the customer calls a case or a request (`client_reference_id`, Idempotency-Key).

What is changed here wants a revision in `service.store.migrations`, which is what makes the tables of a database.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no zone, so it is put back on reading; PostgreSQL gives that of its session."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To the database; a moment without a zone would be ambiguous."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a stored time needs its zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: UtcDateTime, list[Any]: JSON, dict[str, Any]: JSON}  # noqa: RUF012


class CaseRow(Base):
    """A case. `revision` counts its changes: a change applies to the revision that it was made from, or not at all.
    data_key: wrapped by the encryption key `key_id`; both are empty once the case was redacted, and the sealed columns
    too; erased_at: when the media and all else that lies elsewhere were gone as well.
    """

    __tablename__ = "cases"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    revision: Mapped[int]
    profile: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(24), index=True)
    client_reference_id: Mapped[str | None] = mapped_column(String(255), index=True)
    key_id: Mapped[str] = mapped_column(String(64), index=True)
    data_key: Mapped[bytes | None]
    case_metadata: Mapped[bytes]
    challenge: Mapped[list[Any]]
    max_attempts: Mapped[int]
    steps: Mapped[bytes]
    checks: Mapped[bytes]
    recorded: Mapped[bytes | None]
    outcome: Mapped[str | None] = mapped_column(String(24), index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_received_at: Mapped[datetime | None]
    cell: Mapped[str] = mapped_column(String(64))
    replica: Mapped[str] = mapped_column(String(40), index=True)
    erased_at: Mapped[datetime | None]


class KeyRow(Base):
    """An API key; of its secret the SHA-256 alone."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[Any]]
    secret_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ReplicaRow(Base):
    """An API process on this store, and when it last said that it is there."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    seen_at: Mapped[datetime]


class UploadRow(Base):
    """One accepted media. `evidence_key` says where the evidence has it."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("case_id", "step", "attempt"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    step: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    evidence_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    info: Mapped[bytes]
    received_at: Mapped[datetime]


class ResumableRow(Base):
    """An upload that goes on after a lost connection. offset: bytes of it that are durable, fewer than length: the last
    ones are stored with the whole media alone. It was accepted when `uploads` has its id; ended_at: since when nothing
    more is taken for it.
    """

    __tablename__ = "resumable_uploads"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    step: Mapped[str] = mapped_column(String(16))
    media_type: Mapped[str] = mapped_column(String(64))
    length: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class PieceRow(Base):
    """Bytes of such an upload from `start` on. `evidence_key` says where the evidence has them."""

    __tablename__ = "upload_pieces"

    upload_id: Mapped[str] = mapped_column(ForeignKey("resumable_uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    evidence_key: Mapped[str] = mapped_column(String(200))


class EventRow(Base):
    """Something that happened to a case, in the order in which it is told. once: what several processes may tell, but
    is kept once.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("case_id", "once"),
        {"sqlite_autoincrement": True},  # an id that a client has seen is never given again
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(24))
    once: Mapped[str | None] = mapped_column(String(100))
    data: Mapped[bytes]
    at: Mapped[datetime]


class ShadowRow(Base):
    """What a shadow of a case's profile came to beside the live policy (`graphs.shadow`), for one set of attempts.

    Plain, to be counted: outcomes, reason codes and results of checks, as the audit log has them of a decision. It goes
    with the case's events when the case is redacted.
    """

    __tablename__ = "shadows"

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), primary_key=True)
    shadow: Mapped[str] = mapped_column(String(40), primary_key=True)
    attempts: Mapped[str] = mapped_column(String(64), primary_key=True)
    profile: Mapped[str] = mapped_column(String(64), index=True)
    version: Mapped[str] = mapped_column(String(64))
    live_outcome: Mapped[str] = mapped_column(String(24))
    outcome: Mapped[str] = mapped_column(String(24))
    failed: Mapped[bool]
    said: Mapped[dict[str, Any]]


class AuditRow(Base):
    """A line of the audit log (`service.store.audit`). No key to the case: the line outlives it. Triggers that revision
    0001 made refuse to change or delete one.
    """

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(40))
    case_id: Mapped[str | None] = mapped_column(String(40), index=True)
    details: Mapped[dict[str, Any]]
    hash: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Base):
    """The newest line's number and hash: one row, which revision 0002 made and those who write lines wait for."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))


class RequestRow(Base):
    """A creation that may be repeated: its Idempotency-Key, a digest of the request, and the answer it got."""

    __tablename__ = "requests"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    answer: Mapped[bytes]
    created_at: Mapped[datetime]


class EndpointRow(Base):
    """Where a customer takes webhooks. events: the types wanted, all of them where it is null; previous_secret: signs
    as well until previous_until, while the receiver learns the new one. data_key: seals both, as in a case.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    description: Mapped[str | None] = mapped_column(String(255))
    key_id: Mapped[str] = mapped_column(String(64))
    data_key: Mapped[bytes]
    secret: Mapped[bytes]
    previous_secret: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class DeliveryRow(Base):
    """One webhook for one endpoint, its body as it is signed. position: the order in which they became due; tries:
    attempts since it became due or was last asked for again; ended_at: when it was first delivered or given up.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("webhook_deliveries_due", "endpoint_id", "state", "next_at"),
        Index("webhook_deliveries_in_order", "endpoint_id", "case_id", "position"),
        Index("webhook_deliveries_log", "endpoint_id", "position"),
        {"sqlite_autoincrement": True},
    )

    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    id: Mapped[str] = mapped_column(String(40), unique=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    tries: Mapped[int]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(String(40))
    attempted_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
