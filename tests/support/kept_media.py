"""Decrypts the evidence of a data folder and compares it byte by byte with the case store."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from sqlalchemy import create_engine, select

from service.assembly import opened_stores
from service.store.tables import PieceRow, UploadRow
from tests.support.data_folders import settings_in


def kept(folder: Path) -> dict[tuple[str, str], str]:
    """SHA-256 of the stored media by case and step.

    Asserts that it equals the digest in the case store, and that the evidence has nothing else except pieces of
    resumable uploads.
    """
    database = create_engine(settings_in(folder).store_url)
    uploads = select(UploadRow.case_id, UploadRow.step, UploadRow.evidence_key, UploadRow.sha256).order_by(UploadRow.id)
    with database.connect() as store:
        rows = store.execute(uploads).all()
        pieces = set(store.scalars(select(PieceRow.evidence_key)))
    database.dispose()
    evidence_folder = folder / "evidence"
    found = {path.relative_to(evidence_folder).as_posix() for path in evidence_folder.rglob("*.media")}
    assert found - pieces == {key for _, _, key, _ in rows}, "nothing is left over that no row points to"
    assert list((evidence_folder / "incoming").iterdir()) == []

    async def digests() -> list[str]:
        async with opened_stores(settings_in(folder)) as (_, evidence):
            return [hashlib.sha256(await evidence.read(key)).hexdigest() for _, _, key, _ in rows]

    assert asyncio.run(digests()) == [digest for _, _, _, digest in rows]
    return {(case_id, step): digest for case_id, step, _, digest in rows}
