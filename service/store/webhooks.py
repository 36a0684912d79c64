"""Endpoints and deliveries of webhooks in the case store. Due deliveries are claimed by compare-and-set for a bounded
time: of several API processes normally one sends each, and when that one dies another goes on.

Signing secrets are read and written here alone, and sealed with a data key of their endpoint. What is due on a change
is written by `service.store.outbox`.
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

MOST_ENDPOINTS = 16
_OVERLAP = timedelta(hours=24)
"""How long a secret that was replaced signs as well."""


@dataclass(frozen=True)
class Endpoint:
    """Where webhooks go. events: the types wanted, None for all; disabled_at: since when nothing is sent."""

    id: str
    url: str
    events: tuple[str, ...] | None
    description: str | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True)
class Delivery:
    """One webhook for one endpoint, and how its sending stands. id: the same at each attempt; next_at: not before."""

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
    """A delivery that this process may attempt until a moment. secrets: the signing secrets, the newest first; tries:
    attempts since it became due, with this one; again: it had its turn before and is sent again.
    """

    delivery: Delivery
    url: str
    secrets: tuple[str, ...]
    tries: int
    until: datetime
    again: bool


@dataclass(frozen=True)
class AttemptResult:
    """What an attempt came to. status: of the answer, None without one, and error says why; disables: the endpoint
    wants nothing more.
    """

    state: DeliveryState
    status: int | None = None
    error: str | None = None
    next_at: datetime | None = None
    disables: bool = False


class WebhookStore:
    """Endpoints and deliveries in the database of the case store. Each call raises StoreUnavailableError; those that
    need a signing secret also KeyMissingError and SealBrokenError.
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
        """Make an endpoint; gives it and its signing secret. by: who asks, for the audit log, here and below.

        Raises TooManyEndpointsError.
        """
        with self._writing() as session:
            if session.scalars(select(func.count()).select_from(EndpointRow)).one() >= MOST_ENDPOINTS:
                raise TooManyEndpointsError(f"There are {MOST_ENDPOINTS} webhook endpoints already. Delete one first.")
            endpoint_id, secret = time_ordered("endpoint"), _new_secret()
            key = self._keyring.made(endpoint_id)
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
        """The endpoint of that id. Raises UnknownEndpointError."""
        with self._reading() as session:
            return _endpoint(_known(session, endpoint_id))

    @in_a_thread
    def remove(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> None:
        """Delete an endpoint with its deliveries. Raises UnknownEndpointError."""
        with self._writing() as session:
            session.delete(_known(session, endpoint_id))
            audit.append(session, now, [_entry(by, "removed", endpoint_id)])

    @in_a_thread
    def rotate(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> tuple[Endpoint, str]:
        """Give an endpoint a new secret; the old one signs as well for a day. Raises UnknownEndpointError."""
        with self._writing() as session:
            row = _known(session, endpoint_id)
            row.previous_secret, row.previous_until = row.secret, now + _OVERLAP
            secret = _new_secret()
            row.secret = self._values(row).seal(secret, _place(row))
            audit.append(session, now, [_entry(by, "secret_rotated", endpoint_id)])
        return _endpoint(row), secret

    @in_a_thread
    def enable(self, endpoint_id: str, now: datetime, *, by: str = audit.SERVICE) -> Endpoint:
        """Send to a disabled endpoint again, from now on; harmless when repeated. Raises UnknownEndpointError."""
        with self._writing() as session:
            row = _known(session, endpoint_id)
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
        """An endpoint's deliveries, newest first, those after the one of the id `after`; of one state, where given.

        Raises UnknownEndpointError, UnknownDeliveryError.
        """
        with self._reading() as session:
            _known(session, endpoint_id)
            query = select(DeliveryRow).where(DeliveryRow.endpoint_id == endpoint_id)
            if after is not None:
                query = query.where(DeliveryRow.position < _sent(session, endpoint_id, after).position)
            if state is not None:
                query = query.where(DeliveryRow.state == state)
            rows = session.scalars(query.order_by(DeliveryRow.position.desc()).limit(most))
            return [_delivery(row) for row in rows]

    @in_a_thread
    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """One delivery. Raises UnknownDeliveryError."""
        with self._reading() as session:
            return _delivery(_sent(session, endpoint_id, delivery_id))

    @in_a_thread
    def replay(self, endpoint_id: str, delivery_id: str, now: datetime) -> Delivery:
        """Have a delivery sent again, at once and with all retries; one that is waiting does not wait any longer. An
        attempt that is under way is left behind, because its success would else be taken for that of the new one.

        Raises UnknownEndpointError, EndpointDisabledError, UnknownDeliveryError.
        """
        with self._writing() as session:
            if _known(session, endpoint_id).disabled_at is not None:
                raise EndpointDisabledError("The endpoint is disabled. Enable it first, then replay the delivery.")
            row = _sent(session, endpoint_id, delivery_id)
            row.state, row.tries, row.next_at, row.claimed_until = "pending", 0, now, None
        return _delivery(row)

    # --- for the sender ---

    @in_a_thread
    def claim(self, now: datetime, until: datetime, most: int, busy: Mapping[str, int]) -> list[Claim]:
        """Take due deliveries for this process until a moment. most: under way to one endpoint at once; busy: how many
        are already.
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
                    if done.rowcount == 1:  # type: ignore[attr-defined]  # an UPDATE gives a CursorResult
                        signing = self._secrets(endpoint, now)
                        again = row.ended_at is not None
                        claims.append(Claim(_delivery(row), endpoint.url, signing, row.tries + 1, until, again))
        return claims

    @in_a_thread
    def record(self, claim: Claim, outcome: AttemptResult, now: datetime) -> bool:
        """Record what the attempt of a claim came to; False when the claim is over and another process goes on."""
        ended = outcome.state != "pending"
        with self._writing() as session:
            mine = (DeliveryRow.id == claim.delivery.id) & (DeliveryRow.claimed_until == claim.until)
            values = {
                "state": outcome.state,
                "last_status": outcome.status,
                "last_error": outcome.error,
                "attempted_at": now,
                "next_at": outcome.next_at,
                "claimed_until": None,
                "ended_at": _first_end(now) if ended else DeliveryRow.ended_at,
            }
            done = session.execute(update(DeliveryRow).where(mine).values(**values))
            recorded: bool = done.rowcount == 1  # type: ignore[attr-defined]  # an UPDATE gives a CursorResult
            if recorded and not claim.again:
                _defer(session, claim.delivery, outcome.next_at or now)
            if outcome.disables:
                _disable(session, claim.delivery.endpoint_id, now)
        return recorded

    @in_a_thread
    def give_back(self, claims: Sequence[Claim]) -> None:
        """End claims whose attempts were broken off: another process need not wait for their end."""
        with self._writing() as session:
            for claim in claims:
                mine = (DeliveryRow.id == claim.delivery.id) & (DeliveryRow.claimed_until == claim.until)
                session.execute(update(DeliveryRow).where(mine).values(claimed_until=None))

    @in_a_thread
    def forget(self, before: datetime) -> None:
        """Remove deliveries that ended before a moment and are not asked for again."""
        over = (DeliveryRow.state != "pending") & (DeliveryRow.ended_at < before)
        with self._writing() as session:
            session.execute(delete(DeliveryRow).where(over))


def _due(endpoint_id: str, now: datetime) -> Select[DeliveryRow]:
    """An endpoint's deliveries to attempt now. One waits for those of the same case before it; one that is sent again
    has had its turn, so it neither waits nor is waited for.
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
    """Those of its case that wait for a delivery need not be looked at before it is attempted again: with ten thousand
    such cases each look took a tenth of a second. At its end they are due.
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
    """Nothing more is sent there. What waited is given up, and can be sent again once the endpoint is enabled."""
    session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(disabled_at=now))
    waiting = (DeliveryRow.endpoint_id == endpoint_id) & (DeliveryRow.state == "pending")
    values = {"state": "failed", "last_error": "endpoint_disabled", "next_at": None, "ended_at": _first_end(now)}
    session.execute(update(DeliveryRow).where(waiting).values(**values))


def _first_end(now: datetime) -> ColumnElement[datetime]:
    return func.coalesce(DeliveryRow.ended_at, literal(now, UtcDateTime()))


def _entry(by: str, what: str, endpoint_id: str) -> audit.Entry:
    return audit.Entry(by, f"webhook_endpoint.{what}", None, {"endpoint": endpoint_id})


def _known(session: Session, endpoint_id: str) -> EndpointRow:
    row = session.get(EndpointRow, endpoint_id) if is_id("endpoint", endpoint_id) else None
    if row is None:
        raise UnknownEndpointError("No webhook endpoint has this id.")
    return row


def _sent(session: Session, endpoint_id: str, delivery_id: str) -> DeliveryRow:
    query = select(DeliveryRow).where(DeliveryRow.endpoint_id == endpoint_id, DeliveryRow.id == delivery_id)
    known = is_id("endpoint", endpoint_id) and is_id("msg", delivery_id)
    row = session.scalars(query).one_or_none() if known else None
    if row is None:
        raise UnknownDeliveryError("This webhook endpoint has no delivery with this id.")
    return row


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _place(row: EndpointRow) -> str:
    """Where a secret is sealed for: the same for both, because one becomes the other."""
    return f"webhook_endpoints.secret/{row.id}"


def _endpoint(row: EndpointRow) -> Endpoint:
    events = None if row.events is None else tuple(row.events)
    return Endpoint(row.id, row.url, events, row.description, row.created_at, row.disabled_at)


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})
