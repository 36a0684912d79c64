"""The commands on cases: create, upload, cancel, review, and a sweep that ends overdue cases.

Each command reads the case, applies one pure transition (`service.lifecycle.transitions`) in one transaction
(`service.store.cases`), and then notifies the reconciler (`service.cases.reconciler`). Before an upload is
acknowledged, its media is durable in the evidence and its row in the store.

Redaction is in `service.cases.redaction`, uploads in several requests in `service.uploads`.
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
"""The accepted media types, and the kind of each."""
UNKNOWN_TYPE = "application/octet-stream"
"""The client does not declare the type, as many generated clients cannot. The content is probed instead."""


@dataclass(frozen=True)
class NewCase:
    """A request to create a case."""

    profile: str
    client_reference_id: str | None
    metadata: Mapping[str, str]

    def fingerprint(self, secrets: Secrets) -> str:
        """A digest that is equal for a repeated request. Keyed, because a name in the metadata could be guessed from a
        plain digest.
        """
        return secrets.digest(json.dumps(asdict(self), sort_keys=True))


@dataclass(frozen=True)
class Created:
    """The answer to a creation, the client secret that is not part of it, and when the secret expires."""

    answer: Mapping[str, Any]
    secret: str
    secret_until: datetime


class Cases:
    """The commands on cases, in one API process.

    replica: the id of this process, which owns the cases that it creates or takes uploads for. view: builds the answer
    to a creation, which is stored so that a repeated request gets it again.
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
        """Create a case and submit its graph. A repeated key returns the first answer again.

        by: the actor, for the audit log; also in the methods below. Raises ProfileError, MarkerError, IdempotencyError,
        BacklogError, ClusterError, StoreUnavailableError; then no case is left behind.
        """
        fingerprint = new.fingerprint(self._secrets)
        known = await self._store.request(idempotency_key) if idempotency_key else None
        if known is None:
            profile = self._require_offered(new)
            if await self._store.processing() >= self._settings.max_backlog:
                raise BacklogError("Too many cases are waiting for a decision. Try again later.")
            cell = await self._reconciler.cells.least_loaded()  # raises before anything is stored, if none is connected
            case = self._new_case(new, profile, cell)
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
                    raise ClusterError("The scheduler did not accept the case. Try again later.") from error
                log.info("case_created", case_id=case.id, profile=case.profile)
                self.telemetry.created(case)
                return Created(self._view(case), *self.secret_for(case.id))
        if known.fingerprint != fingerprint:
            raise IdempotencyError(
                "This Idempotency-Key was used with a different request. Use a new key for a new case."
            )
        return Created(known.answer, *self.secret_for(known.case_id))

    def offered(self) -> list[Profile]:
        """The profiles that cases can be created with in this service."""
        return [profile for profile in profiles().values() if self._settings.sandbox or not profile.sandbox]

    def _require_offered(self, new: NewCase) -> Profile:
        profile = get_profile(new.profile)
        if profile.sandbox and not self._settings.sandbox:
            raise ProfileError(
                f"Profile {profile.name} is a sandbox, and sandboxes are off. Set VERIDASK_SANDBOX=true to allow them."
            )
        parse(marker_of(profile.name, new.metadata), profile.policy)
        return profile

    def secret_for(self, case_id: str) -> tuple[str, datetime]:
        """A new client secret of a case, and when it expires."""
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self._settings.client_secret_s)
        return self._secrets.of(case_id, until), until

    def _new_case(self, new: NewCase, profile: Profile, cell: str) -> Case:
        case_id, now = time_ordered("case"), datetime.now(UTC)
        count = profile.challenge_actions
        challenge = draw(random.SystemRandom(), count).to_list() if count else []
        return Case(
            id=case_id,
            profile=profile.name,
            status="requires_input",
            client_reference_id=new.client_reference_id,
            metadata=new.metadata,
            challenge=tuple(challenge),
            max_attempts=profile.policy.max_attempts,
            created_at=now,
            updated_at=now,
            expires_at=now + timedelta(seconds=profile.open_seconds),
            steps=dict.fromkeys(profile.steps, StepState()),
            cell=cell,
            replica=self._replica,
        )

    def require_upload_allowed(self, case: Case, step_name: str, content_type: str, length: int | None) -> Step:
        """Check that an upload of this type and length is allowed for the step now.

        content_type: without parameters. length: in bytes; None if the client did not declare it. Raises
        UnknownStepError, CaseClosedError, StepTakenError, MediaTypeError, MediaTooLargeError, EmptyMediaError.
        """
        step = require_wanted(case, step_name)
        accepts = get_profile(case.profile).accepts[step]
        if content_type != UNKNOWN_TYPE and MEDIA_TYPES.get(content_type) not in accepts:
            wanted = ", ".join(name for name, kind in MEDIA_TYPES.items() if kind in accepts)
            raise MediaTypeError(f"Step {step} accepts {wanted}. Set Content-Type to one of these.")
        if length is not None and length > self._settings.max_upload_bytes:
            raise MediaTooLargeError(
                f"The media is larger than {self._settings.max_upload_bytes} bytes. Record a shorter one."
            )
        if length == 0:
            raise EmptyMediaError("The body is empty. Send the bytes of the media.")
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
        """Take a media for a step. Returns the changed case, once everything is durable.

        content_type, length: as for `require_upload_allowed`. upload_id: its id, if it has one already. Raises
        the errors of `require_upload_allowed`, MediaError and its subclasses, UploadTimeoutError,
        EvidenceUnavailableError, StoreUnavailableError; then the step stays as it was.
        """
        with self.telemetry.upload(case, step_name, content_type):
            step = self.require_upload_allowed(case, step_name, content_type, length)
            return await self._store_upload(case, step, content_type, body, by, upload_id)

    async def _store_upload(
        self, case: Case, step: Step, content_type: str, body: AsyncIterator[bytes], by: str, upload_id: str | None
    ) -> Case:
        accepts = get_profile(case.profile).accepts[step]
        attempt = case.steps[step].attempts + 1
        incoming = await self._receive(body, self._settings.max_upload_bytes, case.id, step, attempt)
        received_at = datetime.now(UTC)
        key = None
        try:
            info, _ = await asyncio.gather(self._probe(incoming, content_type), self._evidence.sync(incoming))
            if info.kind not in accepts:
                raise MediaTypeError(
                    f"Step {step} accepts {' or '.join(f'{kind}s' for kind in accepts)}. Upload one of these."
                )
            with self.telemetry.stage("keep"):
                stored_key = key = await self._evidence.store(incoming)

            def row(after: Case) -> Upload:
                number = after.steps[step].attempts
                row_id = upload_id or time_ordered("upload")
                return Upload(row_id, case.id, step, number, stored_key, incoming.sha256, asdict(info), received_at)

            change = await self._store.change(
                case.id, lambda current: accept(current, step, received_at, self._replica), upload=row, by=by
            )
        except BaseException:
            self._evidence.discard(incoming)
            if key is not None:
                # The transaction may have committed all the same: remove the media only if no row refers to it.
                await asyncio.shield(self._remove_unreferenced(case.id, key))
            raise
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
            seconds = f"{self._settings.upload_timeout_s:.0f} seconds"
            raise UploadTimeoutError(
                f"The upload was not complete after {seconds}. Send it again, or use resumable uploads."
            ) from None

    @stage("probe")
    async def _probe(self, incoming: Incoming, content_type: str) -> MediaInfo:
        declared = None if content_type == UNKNOWN_TYPE else content_type
        return await self._prober.probe(incoming.path, incoming.media_key, declared)

    async def _remove_unreferenced(self, case_id: str, key: str) -> None:
        # If the store is unavailable, the file stays. The next start removes it if no row refers to it.
        with contextlib.suppress(ServiceError):
            if all(upload.evidence_key != key for upload in await self._store.uploads(case_id)):
                await self._evidence.remove(key)
            else:
                self._reconciler.changed(case_id)

    async def cancel(self, case_id: str, by: str) -> Case:
        """Cancel a case. Can be repeated. Raises UnknownCaseError, CaseClosedError."""
        change = await self._store.change(case_id, lambda case: cancel(case, datetime.now(UTC)), by=by)
        self._reconciler.changed(case_id)
        return change.case

    async def review(self, case: Case, opinion: Opinion, by: str) -> Case:
        """Record a reviewer's decision on a case that is in review. Can be repeated. by: the id of their API key.

        Raises the errors of `service.lifecycle.transitions.review`, UnknownCaseError, StoreUnavailableError. If the
        reviewer asks for a retake, the case is open again, but the cluster gets it only with its next upload.
        """
        now = datetime.now(UTC)
        until = now + timedelta(seconds=get_profile(case.profile).open_seconds)
        change = await self._store.change(case.id, lambda current: review(current, opinion, by, now, until), by=by)
        if change.events:
            log.info("case_reviewed", case_id=case.id, outcome=opinion.outcome, status=change.case.status)
        return change.case

    async def sweep(self, now: datetime) -> None:
        """Expire cases that ran out of time, and send cases without a timely decision to review.

        Raises StoreUnavailableError.
        """
        deadline = now - timedelta(seconds=self._settings.decision_timeout_s)
        for case in await self._store.overdue(now, deadline):
            if case.status == "processing":
                verdict, attempts = without_result(get_profile(case.profile).policy.version), case.attempts
                change = await self._store.change(
                    case.id,
                    lambda current, v=verdict, a=attempts: decide(current, a, v, now, decided_by="deadline"),  # type: ignore[misc]
                )
            else:
                change = await self._store.change(case.id, lambda current: expire(current, now))
            if change is not None:
                log.info("case_overdue", case_id=case.id, status=change.case.status)
                if case.status == "processing":
                    self.telemetry.decided(change.case)
                self._reconciler.changed(case.id)
