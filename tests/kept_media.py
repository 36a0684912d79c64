"""What the evidence of a data folder holds, opened and compared byte by byte with what the case store says of it."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from service.assembly import opened_stores
from service.settings import Settings


def kept(folder: Path) -> dict[tuple[str, str], str]:
    """SHA-256 of the media of each case and step, as it was sent; that of the row is the same. Nothing else is there
    but pieces of resumable uploads.
    """
    with closing(sqlite3.connect(folder / "cases.sqlite")) as store:
        rows = store.execute("SELECT case_id, step, evidence_key, sha256 FROM uploads ORDER BY id").fetchall()
        pieces = {key for (key,) in store.execute("SELECT evidence_key FROM upload_pieces")}
    evidence_folder = folder / "evidence"
    found = {path.relative_to(evidence_folder).as_posix() for path in evidence_folder.rglob("*.media")}
    assert found - pieces == {key for _, _, key, _ in rows}, "nothing is left over that no row points to"
    assert list((evidence_folder / "incoming").iterdir()) == []

    async def digests() -> list[str]:
        async with opened_stores(Settings(data_dir=folder)) as (_, evidence):
            return [hashlib.sha256(await evidence.read(key)).hexdigest() for _, _, key, _ in rows]

    assert asyncio.run(digests()) == [digest for _, _, _, digest in rows]
    return {(case_id, step): digest for case_id, step, _, digest in rows}
