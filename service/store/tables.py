"""The tables of the case store: cases, uploads, resumable uploads, events, idempotent requests, API keys, replicas,
webhooks, the audit log.

Columns of bytes are sealed with the data key of their row or case, so that a copy of the database does not reveal
personal data (`service.store.rows` binds each value to its place). The other columns are plain, to be searched and
sorted: ids, status, times, digests, and the client's own names for a case or a request (`client_reference_id`,
Idempotency-Key).

These classes do not create the tables: each change here needs a revision in `service.store.migrations`.
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
    """A time in UTC. SQLite stores no time zone, so it is added on reading; PostgreSQL returns that of its session."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert for the database. A time without a zone is refused, because it is ambiguous."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a stored time needs its zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert from the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The base class of all tables."""

    type_annotation_map = {datetime: UtcDateTime, list[Any]: JSON, dict[str, Any]: JSON}  # noqa: RUF012


class CaseRow(Base):
    """A case.

    revision: counts changes; a change applies only to the revision that it was computed from. data_key: wrapped by the
    encryption key `key_id`; redaction empties both, and the sealed columns. erased_at: when the media and all other
    data outside the store were erased too.
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
    """An API key. Only the SHA-256 of its secret is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[Any]]
    secret_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ReplicaRow(Base):
    """An API process on this store, and the time of its last heartbeat."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    seen_at: Mapped[datetime]


class UploadRow(Base):
    """One accepted media. evidence_key: its key in the evidence."""

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
    """A resumable upload. It was accepted if `uploads` has a row with its id.

    offset: durable bytes, always fewer than length: the last bytes are stored only with the whole media. ended_at:
    since when it takes no more bytes.
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
    """A piece of a resumable upload. start: offset of its first byte. evidence_key: its key in the evidence."""

    __tablename__ = "upload_pieces"

    upload_id: Mapped[str] = mapped_column(ForeignKey("resumable_uploads.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    evidence_key: Mapped[str] = mapped_column(String(200))


class EventRow(Base):
    """An event of a case. Ids give the order in which events are sent.

    once: identifies an event that several processes may report but that is stored only once.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("case_id", "once"),
        {"sqlite_autoincrement": True},  # an id that a client has seen is never used again
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(24))
    once: Mapped[str | None] = mapped_column(String(100))
    data: Mapped[bytes]
    at: Mapped[datetime]


class ShadowRow(Base):
    """The verdict of a shadow policy for one set of attempts of a case, beside the live verdict (`graphs.shadow`).

    Plain, so that it can be counted: outcomes, reason codes and results of checks, the same as the audit log has of a
    decision. Deleted when the case is redacted.
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
    """A line of the audit log (`service.store.audit`).

    It has no foreign key to its case, because it outlives the case. Triggers from revision 0001 refuse changes and
    deletions.
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
    """Number and hash of the newest line: one row, created by revision 0002. Writers of lines lock it."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))


class RequestRow(Base):
    """A creation request: its Idempotency-Key, a digest of its body, and its answer, which a repetition gets again."""

    __tablename__ = "requests"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id", ondelete="CASCADE"))
    answer: Mapped[bytes]
    created_at: Mapped[datetime]


class EndpointRow(Base):
    """A webhook endpoint.

    events: the subscribed types; null means all. previous_secret: signs too, until previous_until, while the receiver
    changes to the new secret. data_key: seals both secrets, as in a case.
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
    """One webhook for one endpoint.

    body: exactly as it is signed. position: the order in which deliveries were created. attempts: all attempts. tries:
    attempts since it was created or last replayed. ended_at: when it was first delivered or given up.
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
