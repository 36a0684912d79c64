"""API keys and their scopes. `veridask keys` creates them and shows each only once; the store has only a digest.

A key has the form `vd_<26 characters>_<43 characters>`: an id that finds its row, and 256 random bits. The store has
only their SHA-256. A slow hash would add no security for that many bits, and would slow down every request.

Which request needs which scope is in `service.http.access`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from sqlalchemy import select

from service.errors import UnknownKeyError
from service.lifecycle.identifiers import TIME_ORDERED, time_ordered
from service.store import audit
from service.store.database import Database, in_a_thread
from service.store.tables import KeyRow
from service.vocabulary import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)

_TOKEN = re.compile(rf"vd_({TIME_ORDERED})_([A-Za-z0-9_-]{{43}})")
_CACHE_S = 5.0
"""How long a row is cached. A revoked key stops working after at most that time."""
_MAX_CACHED = 10_000


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret. Times are UTC."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    secret_hash: str

    def is_good(self, now: datetime) -> bool:
        """Whether the key is valid now: neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class ApiKeys:
    """API keys in the case store's database. `create`, `all` and `revoke` block. All raise StoreUnavailableError."""

    def __init__(self, database: Database) -> None:
        self.threads = database.threads
        self._database = database
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}

    def create(
        self,
        name: str,
        scopes: Sequence[Scope],
        now: datetime,
        expires_at: datetime | None = None,
        *,
        by: str = audit.SERVICE,
    ) -> tuple[ApiKey, str]:
        """Create a key. Returns it and its text, which cannot be shown again. by: the actor, for the audit log."""
        key_id = time_ordered("key")
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        with self._database.writing() as session:
            row = KeyRow(
                id=key_id,
                name=name,
                scopes=sorted(set(scopes), key=SCOPES.index),
                secret_hash=_digest(secret),
                created_at=now,
                expires_at=expires_at,
                revoked_at=None,
            )
            session.add(row)
            audit.append(session, now, [audit.Entry(by, "key.created", None, {"key": key_id, "scopes": row.scopes})])
            return _key_of(row), f"vd_{key_id.removeprefix('key_')}_{secret}"

    def all(self) -> list[ApiKey]:
        """All keys, including revoked ones, oldest first."""
        with self._database.reading() as session:
            return [_key_of(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.id))]

    def revoke(self, key_id: str, now: datetime, *, by: str = audit.SERVICE) -> ApiKey:
        """Revoke a key for good. Can be repeated. by: the actor, for the audit log. Raises UnknownKeyError."""
        with self._database.writing() as session:
            row = session.get(KeyRow, key_id)
            if row is None:
                raise UnknownKeyError(f"No API key has the id {key_id}. `veridask keys list` shows them.")
            row.revoked_at = row.revoked_at or now
            audit.append(session, now, [audit.Entry(by, "key.revoked", None, {"key": key_id})])
            return _key_of(row)

    async def opened_by(self, token: str, now: datetime) -> ApiKey | None:
        """The key with that text; None if it is unknown, revoked or expired. Digests are compared in constant time."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        key = await self._cached(f"key_{parts[1]}")
        if key is None or not hmac.compare_digest(_digest(parts[2]), key.secret_hash) or not key.is_good(now):
            return None
        return key

    async def _cached(self, key_id: str) -> ApiKey | None:
        cached = self._cache.get(key_id)
        if cached is not None and time.monotonic() - cached[0] < _CACHE_S:
            return cached[1]
        key = await self._find(key_id)
        if len(self._cache) >= _MAX_CACHED:  # somebody tries ids
            self._cache.clear()
        self._cache[key_id] = (time.monotonic(), key)
        return key

    @in_a_thread
    def _find(self, key_id: str) -> ApiKey | None:
        with self._database.reading() as session:
            row = session.get(KeyRow, key_id)
            return _key_of(row) if row is not None else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key_of(row: KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        secret_hash=row.secret_hash,
    )
