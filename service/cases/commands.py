"""What can be asked of a case: create, take an upload, look, cancel, review, and the sweep that ends what is overdue.

Each operation is: read, one pure transition (`service.lifecycle.case`), one transaction (`service.store.cases`), then
tell the cluster's side (`service.cases.reconciler`) that there is something new. A media is durable in the evidence,
and its row in the store, before an upload is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from graphs.errors import ProfileError
from graphs.profile import Profile, get_profile, profiles
from graphs.records import Step
from graphs.sandbox import marker_of, parse
from models.errors import EmptyMediaError, MediaTooLargeError, MediaTypeError
from models.liveness.challenge import draw
from models.media.decoding import MediaInfo
from service.cases.reconciler import CaseReconciler
from service.crypto.client_secrets import Secrets
from service.errors import BacklogError, IdempotencyError, ServiceError, UploadTimeoutError
from service.evidence.evidence import Evidence, Incoming
from service.evidence.prober import Prober
from service.lifecycle.case import Case, Change, Event, Opinion, StepState
from service.lifecycle.identifiers import time_ordered
from service.lifecycle.transitions import accept, cancel, decide, expire, require_wanted, review, without_result
from service.observability.telemetry import Telemetry, stage
from service.settings.settings import Settings
from service.store.cases import CaseStore
from service.store.rows import StoredRequest, Upload
from workers.errors import ClusterError

log = structlog.get_logger()

MEDIA_TYPES: Mapping[str, str] = {
    "video/mp4": "video",
    "video/webm": "video",
    "video/quicktime": "video",
    "image/jpeg": "image",
    "image/png": "image",
    "image/webp": "image",
}
"""The media types taken, and the kind that each is."""
UNTOLD = "application/octet-stream"
"""Its sender does not say which of them it is: many generated clients cannot. Its content says."""


@dataclass(frozen=True)
class NewCase:
    """What a case is created from."""

    profile: str
    client_reference_id: str | None
    metadata: Mapping[str, str]

    def fingerprint(self, secrets: Secrets) -> str:
        """What tells a repeated request from another. By a key: of a plain digest a name in the metadata could be
        guessed.
        """
        return secrets.digest(json.dumps(asdict(self), sort_keys=True))


@dataclass(frozen=True)
class Created:
    """The answer to a creation, without the secret, and the secret with the end of its time."""

    answer: Mapping[str, Any]
    secret: str
    secret_until: datetime


class Cases:
    """All operations on cases, in the API process `replica`. `view` makes from a case the answer that is kept for a
    repeated creation.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        store: CaseStore,
        evidence: Evidence,
        prober: Prober,
        reconciler: CaseReconciler,
        replica: str,
        secrets: Secrets,
        view: Callable[[Case], Mapping[str, Any]],
        telemetry: Telemetry,
    ) -> None:
        self.telemetry = telemetry
        self._settings = settings
        self._store = store
        self._evidence = evidence
        self._prober = prober
        self._reconciler = reconciler
        self._replica = replica
        self._secrets = secrets
        self._view = view

    async def create(self, new: NewCase, idempotency_key: str | None, by: str) -> Created:
        """Create a case and submit its graph; a repeated key gives the first answer again. by: who asks, for the audit
        log, here and below.

        Raises ProfileError, MarkerError, IdempotencyError, BacklogError, ClusterError, StoreUnavailableError; no case
        is left then.
        """
        fingerprint = new.fingerprint(self._secrets)
        known = await self._store.request(idempotency_key) if idempotency_key else None
        if known is None:
            held = self._offered(new)
            if await self._store.processing() >= self._settings.max_backlog:
                raise BacklogError("too many cases wait for their decision")
            cell = await self._reconciler.cells.best()  # all away: say so before anything is stored
            case = self._drawn(new, held, cell)
            request = None
            if idempotency_key:
                request = StoredRequest(idempotency_key, fingerprint, case.id, self._view(case))
            change = Change(case, (Event("status", {"status": case.status}),))
            known = await self._store.create(change, request, by=by)
            if known is None:
                try:
                    await self._reconciler.open(case)
                except (ClusterError, OSError) as error:
                    await self._store.delete(case.id)
                    self._reconciler.changed(case.id)
                    raise ClusterError("the scheduler did not take the case") from error
                log.info("case_created", case_id=case.id, profile=case.profile)
                self.telemetry.created(case)
                return Created(self._view(case), *self.secret_for(case.id))
        if known.fingerprint != fingerprint:
            raise IdempotencyError("the key was used for another request")
        return Created(known.answer, *self.secret_for(known.case_id))

    def offered(self) -> list[Profile]:
        """The profiles that cases can be created with here."""
        return [held for held in profiles().values() if self._settings.sandbox or not held.sandbox]

    def _offered(self, new: NewCase) -> Profile:
        held = get_profile(new.profile)
        if held.sandbox and not self._settings.sandbox:
            raise ProfileError(f"profile {held.name} is a sandbox, and this service takes none (VERIDASK_SANDBOX)")
        parse(marker_of(held.name, new.metadata), held.policy)
        return held

    def secret_for(self, case_id: str) -> tuple[str, datetime]:
        """A client secret of that case from now on, and the end of its time."""
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self._settings.client_secret_s)
        return self._secrets.of(case_id, until), until

    def _drawn(self, new: NewCase, held: Profile, cell: str) -> Case:
        case_id, now = time_ordered("case"), datetime.now(UTC)
        count = held.challenge_actions
        challenge = draw(random.SystemRandom(), count).to_list() if count else []
        return Case(
            id=case_id,
            profile=held.name,
            status="requires_input",
            client_reference_id=new.client_reference_id,
            metadata=new.metadata,
            challenge=tuple(challenge),
            max_attempts=held.policy.max_attempts,
            created_at=now,
            updated_at=now,
            expires_at=now + timedelta(seconds=held.open_seconds),
            steps=dict.fromkeys(held.steps, StepState()),
            cell=cell,
            replica=self._replica,
        )

    def require_takes(self, case: Case, step_name: str, content_type: str, length: int | None) -> Step:
        """Check that a media of that type and length may be uploaded for that step now.

        content_type: without parameters. length: in bytes, when it was announced. Raises UnknownStepError,
        CaseClosedError, StepTakenError, MediaTypeError, MediaTooLargeError, EmptyMediaError.
        """
        step = require_wanted(case, step_name)
        accepts = get_profile(case.profile).accepts[step]
        if content_type != UNTOLD and MEDIA_TYPES.get(content_type) not in accepts:
            wanted = ", ".join(name for name, kind in MEDIA_TYPES.items() if kind in accepts)
            raise MediaTypeError(f"step {step} takes {wanted}")
        if length is not None and length > self._settings.max_upload_bytes:
            raise MediaTooLargeError(f"more than {self._settings.max_upload_bytes} bytes")
        if length == 0:
            raise EmptyMediaError("the body is empty")
        return step

    async def upload(
        self,
        case: Case,
        step_name: str,
        content_type: str,
        length: int | None,
        body: AsyncIterator[bytes],
        by: str,
        upload_id: str | None = None,
    ) -> Case:
        """Take a media for a step; gives the case after it, once everything is durable.

        content_type, length: as for `require_takes`. upload_id: of its row, when it has one already. Raises as
        `require_takes`, MediaError and its branches, UploadTimeoutError, EvidenceUnavailableError,
        StoreUnavailableError; the step stays as it was then.
        """
        with self.telemetry.upload(case, step_name, content_type):
            step = self.require_takes(case, step_name, content_type, length)
            return await self._taken(case, step, content_type, body, by, upload_id)

    async def _taken(
        self, case: Case, step: Step, content_type: str, body: AsyncIterator[bytes], by: str, upload_id: str | None
    ) -> Case:
        accepts = get_profile(case.profile).accepts[step]
        attempt = case.steps[step].attempts + 1
        incoming = await self._receive(body, self._settings.max_upload_bytes, case.id, step, attempt)
        received_at = datetime.now(UTC)
        key = None
        try:
            info, _ = await asyncio.gather(self._looked_at(incoming, content_type), self._evidence.sync(incoming))
            if info.kind not in accepts:
                raise MediaTypeError(f"step {step} takes a {' or a '.join(accepts)}")
            with self.telemetry.stage("keep"):
                kept = key = await self._evidence.keep(incoming)

            def row(after: Case) -> Upload:
                number = after.steps[step].attempts
                known = upload_id or time_ordered("upload")
                return Upload(known, case.id, step, number, kept, incoming.sha256, asdict(info), received_at)

            change = await self._store.change(
                case.id, lambda now: accept(now, step, received_at, self._replica), upload=row, by=by
            )
        except BaseException:
            self._evidence.discard(incoming)
            if key is not None:
                # If the transaction did commit, its media is missed here: so only what no row points to goes.
                await asyncio.shield(self._remove_unknown(case.id, key))
            raise
        assert change is not None  # noqa: S101  `accept` gives a change or raises
        self.telemetry.stored(step, incoming.size)
        log.info("upload_stored", case_id=case.id, step=step, bytes=incoming.size, media=info.mime)
        self._reconciler.changed(case.id, last=change.case.status == "processing")
        return change.case

    @stage("receive")
    async def _receive(
        self, body: AsyncIterator[bytes], limit: int, case_id: str, step: Step, attempt: int
    ) -> Incoming:
        try:
            async with asyncio.timeout(self._settings.upload_timeout_s):
                return await self._evidence.receive(body, limit, case_id, step, attempt)
        except TimeoutError:
            raise UploadTimeoutError(f"not complete after {self._settings.upload_timeout_s:.0f} s") from None

    @stage("probe")
    async def _looked_at(self, incoming: Incoming, content_type: str) -> MediaInfo:
        declared = None if content_type == UNTOLD else content_type
        return await self._prober.probe(incoming.path, incoming.opens, declared)

    async def _remove_unknown(self, case_id: str, key: str) -> None:
        # A store that is away leaves the file; it is removed at the next start if no row points to it.
        with contextlib.suppress(ServiceError):
            if all(upload.evidence_key != key for upload in await self._store.uploads(case_id)):
                await self._evidence.remove(key)
            else:
                self._reconciler.changed(case_id)

    async def cancel(self, case_id: str, by: str) -> Case:
        """End a case at the customer's wish; harmless when repeated. Raises UnknownCaseError, CaseClosedError."""
        change = await self._store.change(case_id, lambda case: cancel(case, datetime.now(UTC)), by=by)
        assert change is not None  # noqa: S101  `cancel` gives a change or raises
        self._reconciler.changed(case_id)
        return change.case

    async def review(self, case: Case, opinion: Opinion, by: str) -> Case:
        """A person decides a case that is in review; harmless when repeated. by: the id of his API key.

        Raises as `lifecycle.review`, UnknownCaseError, StoreUnavailableError. A case that is opened again goes on with
        its next upload: until then nothing of it is on the cluster.
        """
        now = datetime.now(UTC)
        until = now + timedelta(seconds=get_profile(case.profile).open_seconds)
        change = await self._store.change(case.id, lambda known: review(known, opinion, by, now, until), by=by)
        assert change is not None  # noqa: S101  `review` gives a change or raises
        if change.events:
            log.info("case_reviewed", case_id=case.id, outcome=opinion.outcome, status=change.case.status)
        return change.case

    async def sweep(self, now: datetime) -> None:
        """Expire cases whose time is over, and send those whose decision does not come to a reviewer.

        Raises StoreUnavailableError.
        """
        deadline = now - timedelta(seconds=self._settings.decision_timeout_s)
        for case in await self._store.overdue(now, deadline):
            if case.status == "processing":
                verdict, attempts = without_result(get_profile(case.profile).policy.version), case.attempts
                change = await self._store.change(
                    case.id,
                    lambda c, v=verdict, a=attempts: decide(c, a, v, now, decided_by="deadline"),  # type: ignore[misc]
                )
            else:
                change = await self._store.change(case.id, lambda c: expire(c, now))
            if change is not None:
                log.info("case_overdue", case_id=case.id, status=change.case.status)
                if case.status == "processing":
                    self.telemetry.decided(change.case)
                self._reconciler.changed(case.id)
