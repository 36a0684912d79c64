"""Fixtures: empty case stores on each kind of database, and a case and a verdict to store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from graphs.reasons import reason
from graphs.records import CheckResult, Decision, Step, Verdict
from service.crypto.keyring import Keyring
from service.lifecycle.case import Case, Change, Event, StepState
from service.lifecycle.identifiers import time_ordered
from service.store.cases import CaseStore
from service.store.rows import Upload

KEYS = Keyring({"a": bytes(32)})
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

VERDICT = Verdict(
    Decision("declined", (reason("selfie_face_mismatch", "match", None),), "standard-1"),
    (
        CheckResult(
            "match",
            "rejected",
            (reason("selfie_face_mismatch", "match", None),),
            score=0.71,
            threshold=0.5,
            properties={"pairs": np.arange(3), "nothing": float("nan")},
            breakdown=(CheckResult("pair", "clear"),),
        ),
    ),
)


def new_case() -> Case:
    return Case(
        id=time_ordered("case"),
        profile="standard",
        status="requires_input",
        client_reference_id="person 7",
        metadata={"origin": "test"},
        challenge=("turn_left", "look_up"),
        max_attempts=3,
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        steps={"front": StepState(), "face": StepState()},
    )


def bare_case(steps: Mapping[Step, StepState]) -> Case:
    """A case that is in no store."""
    return replace(
        new_case(), id="case_" + "0" * 26, client_reference_id=None, metadata={}, challenge=(), steps=dict(steps)
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty case store, once for each kind of database."""
    if request.param == "postgresql":
        made: str = request.getfixturevalue("postgres_database")
        return made
    return f"sqlite:///{tmp_path / 'cases.sqlite'}"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[CaseStore]:
    store = CaseStore(store_url, lambda _: None, KEYS)
    await store.start()
    yield store
    await store.close()


async def created(store: CaseStore) -> Case:
    case = new_case()
    await store.create(Change(case, (Event("status", {"status": case.status}),)))
    return case


def upload_of(step: str) -> object:
    def row(case: Case) -> Upload:
        attempt = case.steps[step].attempts  # type: ignore[index]
        key = f"cases/{case.id}/{step}-{attempt}-{time_ordered('x')}.media"
        return Upload(time_ordered("upload"), case.id, step, attempt, key, "f" * 64, {"kind": "video"}, NOW)  # type: ignore[arg-type]

    return row
