"""Evidence for people: each access to media or findings is written to the audit log before anything is returned.

The service itself does not use this to deliver uploads to the workers: `service.cases.reconciler` reads the evidence
directly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.errors import UnknownUploadError
from service.evidence.evidence import Evidence
from service.store.audit import AuditLog, Entry
from service.store.cases import CaseStore
from service.store.rows import Upload

if TYPE_CHECKING:
    import zarr


class AuditedEvidence:
    """Reads evidence and logs the access. Each method raises StoreUnavailableError; then it returns no evidence."""

    def __init__(self, store: CaseStore, evidence: Evidence) -> None:
        self._store = store
        self._audit: AuditLog = store.audit
        self._evidence = evidence

    async def upload(self, case_id: str, upload_id: str) -> Upload:
        """The row of an upload. Raises UnknownUploadError."""
        for upload in await self._store.uploads(case_id):
            if upload.id == upload_id:
                return upload
        raise UnknownUploadError("This case has no upload with this id. List its uploads to find one.")

    async def media(self, upload: Upload, reader: str) -> bytes:
        """The media of an upload as it was received. reader: id of an API key, or the user of this machine.

        Raises UnknownCaseError, ForgottenError, EvidenceUnavailableError, SealBrokenError.
        """
        details = {"step": upload.step, "attempt": upload.attempt, "part": "media"}
        await self._audit.record(datetime.now(UTC), Entry(reader, "evidence.read", upload.case_id, details))
        return await self._evidence.read(upload.evidence_key)

    async def findings(self, case_id: str, reader: str, part: str = "findings") -> zarr.Group:
        """The Zarr group of a case, read-only. part: name of what is read, for the audit log.

        Raises FileNotFoundError if there are no findings yet, and the errors of `media`.
        """
        await self._audit.record(datetime.now(UTC), Entry(reader, "evidence.read", case_id, {"part": part}))
        return await self._evidence.group(case_id)
