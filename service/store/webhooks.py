"""Webhook endpoints and deliveries in the case store.

A process claims due deliveries by compare-and-set, for a limited time (a lease). So normally one of several API
processes sends each delivery, and if it dies another one continues. Signing secrets are read and written only here;
they are sealed with a data key of their endpoint.

The deliveries for a change are written by `service.store.outbox` and sent by `service.webhooks.sender`.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, func, literal, select, update
from sqlalchemy.orm import Session, aliased

from service.crypto.keyring import Keyring
from service.crypto.sealing import Values
from service.errors import EndpointDisabledError, TooManyEndpointsError, UnknownDeliveryError, UnknownEndpointError
from service.lifecycle.identifiers import is_id, time_ordered
from service.store import audit
from service.store.data_keys import data_key
from service.store.database import Database, in_a_thread
from service.store.tables import DeliveryRow, EndpointRow, UtcDateTime
from service.vocabulary import DeliveryState

MAX_ENDPOINTS = 16
_OVERLAP = timedelta(hours=24)
"""How long a replaced secret still signs, in addition to the new one."""


@dataclass(frozen=True)
class Endpoint:
    """A webhook endpoint. events: the subscribed types, None for all. disabled_at: since when nothing is sent to it."""

    id: str
    url: str
    events: tuple[str, ...] | None
    description: str | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True)
class Delivery:
    """One webhook for one endpoint, and its state. id: the same for each attempt. next_at: earliest time of the next
    one.
    """

    id: str
    endpoint_id: str
    case_id: str
    type: str
    body: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    attempted_at: datetime | None
    next_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class Claim:
    """A delivery that this process may attempt, until the lease ends at `until`.

    secrets: the signing secrets, newest first. tries: attempts since it was created or replayed, including this one.
    again: it was delivered or given up before, and is replayed.
    """

    delivery: Delivery
    url: str
    secrets: tuple[str, ...]
    tries: int
    until: datetime
    again: bool


@dataclass(frozen=True)
class AttemptResult:
    """The result of an attempt.

    status: HTTP status of the answer; None without an answer, then `error` says why. disables: the endpoint asked not
    to get any more webhooks.
    """

    state: DeliveryState
    status: int | None = None
    error: str | None = None
    next_at: datetime | None = None
    disables: bool = False


class WebhookStore:
    """Endpoints and deliveries in the database of the case store.

    Each method raises StoreUnavailableError; those that need a signing secret also KeyMissingError and SealBrokenError.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._keyring = keyring
        self.threads = database.threads
        self._reading, self._writing = database.reading, database.writing

    # --- endpoints ---

    @in_a_thread
    def add(
        self,
        url: str,
        events: Sequence[str] | None,
        description: str | None,
        now: datetime,
        *,
        by: str = audit.SERVICE,
    ) -> tuple[Endpoint, str]:
        """Create an endpoint. Returns it and its signing secret. by: the actor, for the audit log; also below.

        Raises TooManyEndpointsError.
        """
        with self._writing() as session:
            if session.scalars(select(func.count()).select_from(EndpointRow)).one() >= MAX_ENDPOINTS:
                raise TooManyEndpointsError(f"There are {MAX_ENDPOINTS} webhook endpoints already. Delete one first.")
            endpoint_id, secret = time_ordered("endpoint"), _new_secret()
            key = self._keyring.new_data_key(endpoint_id)
            row = EndpointRow(
                id=endpoint_id,
                url=url,
                events=None if events is None else list(dict.fromkeys(events)),
                description=description,
                key_id=key.key_id,
                data_key=key.sealed,
                created_at=now,
            )
            row.secret = self._values(row).seal(secret, _place(row))
            session.add(row)
            audit.append(session, now, [_entry(by, "created", endpoint_id)])
        return _endpoint(row), secret

    @in_a_thread
    def endpoints(self) -> list[Endpoint]:
        """All endpoints, oldest first."""
        with self._reading() as session:
            return [_endpoint(row) for row in session.scalars(select(EndpointRow).order_by(EndpointRow.id))]

    @in_a_thread
    def endpoint(self, endpoint_id: str) -> Endpoint:
        """The endpoint with that id. Raises UnknownEndpointError."""
        with self._reading() as session:
            return _endpoint(_endpoint_row(session, endpoint_id))

    @in_a_thread
    def remove(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> None:
        """Delete an endpoint and its deliveries. Raises UnknownEndpointError."""
        with self._writing() as session:
            session.delete(_endpoint_row(session, endpoint_id))
            audit.append(session, now, [_entry(by, "removed", endpoint_id)])

    @in_a_thread
    def rotate(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> tuple[Endpoint, str]:
        """Give an endpoint a new secret. The old one also signs for one more day. Raises UnknownEndpointError."""
        with self._writing() as session:
            row = _endpoint_row(session, endpoint_id)
            row.previous_secret, row.previous_until = row.secret, now + _OVERLAP
            secret = _new_secret()
            row.secret = self._values(row).seal(secret, _place(row))
            audit.append(session, now, [_entry(by, "secret_rotated", endpoint_id)])
        return _endpoint(row), secret

    @in_a_thread
    def enable(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> Endpoint:
        """Enable a disabled endpoint again. Can be repeated. Raises UnknownEndpointError."""
        with self._writing() as session:
            row = _endpoint_row(session, endpoint_id)
            row.disabled_at = None
            audit.append(session, now, [_entry(by, "enabled", endpoint_id)])
        return _endpoint(row)

    def _values(self, row: EndpointRow) -> Values:
        return Values(data_key(row, self._keyring))

    def _secrets(self, row: EndpointRow, now: datetime) -> tuple[str, ...]:
        old = row.previous_secret if row.previous_until is not None and row.previous_until > now else None
        values, place = self._values(row), _place(row)
        return tuple(values.open(sealed, place) for sealed in (row.secret, old) if sealed)

    # --- deliveries ---

    @in_a_thread
    def deliveries(
        self, endpoint_id: str, most: int, after: str | None = None, state: DeliveryState | None = None
    ) -> list[Delivery]:
        """At most `most` deliveries of an endpoint, newest first.

        after: only those older than the delivery with this id. state: only those in this state.

        Raises UnknownEndpointError, UnknownDeliveryError.
        """
        with self._reading() as session:
            _endpoint_row(session, endpoint_id)
            query = select(DeliveryRow).where(DeliveryRow.endpoint_id == endpoint_id)
            if after is not None:
                query = query.where(DeliveryRow.position < _delivery_row(session, endpoint_id, after).position)
            if state is not None:
                query = query.where(DeliveryRow.state == state)
            rows = session.scalars(query.order_by(DeliveryRow.position.desc()).limit(most))
            return [_delivery(row) for row in rows]

    @in_a_thread
    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """One delivery. Raises UnknownDeliveryError."""
        with self._reading() as session:
            return _delivery(_delivery_row(session, endpoint_id, delivery_id))

    @in_a_thread
    def replay(self, endpoint_id: str, delivery_id: str, now: datetime) -> Delivery:
        """Send a delivery again, now and with all retries. One that waits for a retry is sent now.

        The lease of an attempt in progress ends, because its success must not count as that of the new attempt.

        Raises UnknownEndpointError, EndpointDisabledError, UnknownDeliveryError.
        """
        with self._writing() as session:
            if _endpoint_row(session, endpoint_id).disabled_at is not None:
                raise EndpointDisabledError("The endpoint is disabled. Enable it first, then replay the delivery.")
            row = _delivery_row(session, endpoint_id, delivery_id)
            row.state, row.tries, row.next_at, row.claimed_until = "pending", 0, now, None
        return _delivery(row)

    # --- for the sender ---

    @in_a_thread
    def claim(self, now: datetime, until: datetime, most: int, busy: Mapping[str, int]) -> list[Claim]:
        """Claim due deliveries for this process, until the lease ends at `until`.

        most: attempts in progress per endpoint at the same time. busy: how many are in progress, by endpoint id.
        """
        with self._reading() as session:
            endpoints = session.scalars(select(EndpointRow).where(EndpointRow.disabled_at.is_(None))).all()
            free = {row.id: most - busy.get(row.id, 0) for row in endpoints}
            due = [
                (endpoint, row)
                for endpoint in endpoints
                if free[endpoint.id] > 0
                for row in session.scalars(_due(endpoint.id, now).limit(free[endpoint.id]))
            ]
        claims = []
        if due:
            with self._writing() as session:
                for endpoint, row in due:
                    unclaimed = (DeliveryRow.position == row.position) & (DeliveryRow.attempts == row.attempts)
                    values = {"claimed_until": until, "attempts": row.attempts + 1, "tries": row.tries + 1}
                    done = session.execute(update(DeliveryRow).where(unclaimed).values(**values))
                    if done.rowcount == 1:  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult
                        signing = self._secrets(endpoint, now)
                        again = row.ended_at is not None
                        claims.append(Claim(_delivery(row), endpoint.url, signing, row.tries + 1, until, again))
        return claims

    @in_a_thread
    def record(self, claim: Claim, outcome: AttemptResult, now: datetime) -> bool:
        """Record the result of an attempt. Returns False if the lease is over; then another process continues."""
        ended = outcome.state != "pending"
        with self._writing() as session:
            claimed = (DeliveryRow.id == claim.delivery.id) & (DeliveryRow.claimed_until == claim.until)
            values = {
                "state": outcome.state,
                "last_status": outcome.status,
                "last_error": outcome.error,
                "attempted_at": now,
                "next_at": outcome.next_at,
                "claimed_until": None,
                "ended_at": _first_end(now) if ended else DeliveryRow.ended_at,
            }
            done = session.execute(update(DeliveryRow).where(claimed).values(**values))
            recorded: bool = done.rowcount == 1  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult
            if recorded and not claim.again:
                _defer(session, claim.delivery, outcome.next_at or now)
            if outcome.disables:
                _disable(session, claim.delivery.endpoint_id, now)
        return recorded

    @in_a_thread
    def release(self, claims: Sequence[Claim]) -> None:
        """End the leases of attempts that were canceled, so that other processes need not wait for them to expire."""
        with self._writing() as session:
            for claim in claims:
                claimed = (DeliveryRow.id == claim.delivery.id) & (DeliveryRow.claimed_until == claim.until)
                session.execute(update(DeliveryRow).where(claimed).values(claimed_until=None))

    @in_a_thread
    def delete_ended(self, before: datetime) -> None:
        """Delete deliveries that ended before `before` and are not being replayed."""
        over = (DeliveryRow.state != "pending") & (DeliveryRow.ended_at < before)
        with self._writing() as session:
            session.execute(delete(DeliveryRow).where(over))


def _due(endpoint_id: str, now: datetime) -> Select[DeliveryRow]:
    """The deliveries of an endpoint to attempt now.

    Each waits for earlier deliveries of the same case. A replayed delivery neither waits nor is waited for.
    """
    earlier = aliased(DeliveryRow)
    waits = select(earlier.position).where(
        earlier.endpoint_id == endpoint_id,
        earlier.case_id == DeliveryRow.case_id,
        earlier.position < DeliveryRow.position,
        earlier.ended_at.is_(None),
    )
    return (
        select(DeliveryRow)
        .where(
            DeliveryRow.endpoint_id == endpoint_id,
            DeliveryRow.state == "pending",
            DeliveryRow.next_at <= now,
            DeliveryRow.claimed_until.is_(None) | (DeliveryRow.claimed_until < now),
            DeliveryRow.ended_at.is_not(None) | ~waits.exists(),
        )
        .order_by(DeliveryRow.next_at, DeliveryRow.position)
    )


def _defer(session: Session, first: Delivery, until: datetime) -> None:
    """Postpone the deliveries of a case that wait for `first` until its next attempt. Once it ends they are due.

    Without this, each search for due deliveries took 0.1 s with ten thousand such cases.
    """
    session.execute(
        update(DeliveryRow)
        .where(
            DeliveryRow.endpoint_id == first.endpoint_id,
            DeliveryRow.case_id == first.case_id,
            DeliveryRow.state == "pending",
            DeliveryRow.ended_at.is_(None),
            DeliveryRow.id != first.id,
        )
        .values(next_at=until)
    )


def _disable(session: Session, endpoint_id: str, now: datetime) -> None:
    """Disable an endpoint and give up its pending deliveries. They can be replayed once it is enabled again."""
    session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(disabled_at=now))
    waiting = (DeliveryRow.endpoint_id == endpoint_id) & (DeliveryRow.state == "pending")
    values = {"state": "failed", "last_error": "endpoint_disabled", "next_at": None, "ended_at": _first_end(now)}
    session.execute(update(DeliveryRow).where(waiting).values(**values))


def _first_end(now: datetime) -> ColumnElement[datetime]:
    return func.coalesce(DeliveryRow.ended_at, literal(now, UtcDateTime()))


def _entry(by: str, what: str, endpoint_id: str) -> audit.Entry:
    return audit.Entry(by, f"webhook_endpoint.{what}", None, {"endpoint": endpoint_id})


def _endpoint_row(session: Session, endpoint_id: str) -> EndpointRow:
    row = session.get(EndpointRow, endpoint_id) if is_id("endpoint", endpoint_id) else None
    if row is None:
        raise UnknownEndpointError("No webhook endpoint has this id.")
    return row


def _delivery_row(session: Session, endpoint_id: str, delivery_id: str) -> DeliveryRow:
    query = select(DeliveryRow).where(DeliveryRow.endpoint_id == endpoint_id, DeliveryRow.id == delivery_id)
    known = is_id("endpoint", endpoint_id) and is_id("msg", delivery_id)
    row = session.scalars(query).one_or_none() if known else None
    if row is None:
        raise UnknownDeliveryError("This webhook endpoint has no delivery with this id.")
    return row


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _place(row: EndpointRow) -> str:
    """The place that a secret is sealed for.

    Both secrets have the same one, because the current becomes the previous.
    """
    return f"webhook_endpoints.secret/{row.id}"


def _endpoint(row: EndpointRow) -> Endpoint:
    events = None if row.events is None else tuple(row.events)
    return Endpoint(row.id, row.url, events, row.description, row.created_at, row.disabled_at)


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})
