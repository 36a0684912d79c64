"""Redaction through the running system: what is left of a person in the store, the evidence, the logs, the cluster."""

from __future__ import annotations

import gc
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import httpx
import pytest
from case_stores import NOW, created, new_case
from distributed import Client
from test_at_rest import body, traces

from graphs.profile import profiles
from service.assembly import assembled
from service.client import VeridaskClient
from service.lifecycle import Change, cancel
from service.server import Running
from service.settings import Settings
from service.store import Store

pytestmark = pytest.mark.cluster


def holders(marker: bytes, case_id: str, dask_worker: Any = None, dask_scheduler: Any = None) -> list[str]:
    """What in this process's objects holds a marker, and which tasks and data name the case."""
    node = dask_worker or dask_scheduler
    worker = hasattr(node, "data")
    found = [f"task {key}" for key in (node.state.tasks if worker else node.tasks) if case_id in str(key)]
    if worker:
        found += [f"data {key}" for key in node.data if case_id in str(key)]
    for holder in gc.get_objects():
        # Texts and bytes are not tracked themselves: they are looked at in what refers to them.
        for one in gc.get_referents(holder):
            if isinstance(one, bytes | bytearray | memoryview) and len(one) > len(marker) and marker in bytes(one):
                found.append(f"{type(one).__name__} of {len(one)} bytes in a {type(holder).__name__}")
    return found


def left(cluster: str, marker: bytes, case_id: str) -> list[str]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not know the tests' modules
    with Client(cluster, set_as_default=False) as client:
        workers = client.run(holders, marker, case_id)
        return [
            *(f"{address}: {what}" for address, found in workers.items() for what in found),
            *client.run_on_scheduler(holders, marker, case_id),
        ]


def with_marker(video: bytes, marker: bytes) -> bytes:
    """The same MP4 with a box of free space that holds the marker (ISO/IEC 14496-12, 8.1.2)."""
    return video + (8 + len(marker)).to_bytes(4, "big") + b"free" + marker


def test_nothing_is_left_of_a_redacted_person(
    server: Running, server_folder: Path, cluster: str, client: VeridaskClient, http: httpx.Client, video: bytes
) -> None:
    name, marker = f"Ottilie {secrets.token_hex(8)}", secrets.token_bytes(24)
    key = f"request of {name}"
    new = {"profile": "recorded", "client_reference_id": name, "metadata": {"name": name}}
    case = http.post("/v1/cases", json=new, headers={"Idempotency-Key": key}).json()
    for step in case["steps"]:
        client.upload(case["id"], step["step"], with_marker(video, marker), "video/mp4")
    while (known := http.get(f"/v1/cases/{case['id']}").json())["status"] == "processing":
        time.sleep(0.1)
    assert http.post(f"/v1/cases/{case['id']}/redact").json()["code"] == "case_open"
    uploads = http.get(f"/v1/cases/{case['id']}/evidence").json()
    media = http.get(f"/v1/cases/{case['id']}/evidence/{uploads[0]['id']}")
    assert media.content == with_marker(video, marker)
    assert media.headers["content-disposition"] == f'attachment; filename="{uploads[0]["id"]}"'
    assert http.get(f"/v1/cases/{case['id']}/evidence/upload_x").json()["code"] == "unknown_upload"
    assert known["status"] != "requires_input" or left(cluster, marker, case["id"]), "the search finds what is there"
    if known["status"] == "requires_input":
        client.cancel(case["id"])

    redacted = http.post(f"/v1/cases/{case['id']}/redact")
    assert redacted.status_code == 200, redacted.text
    assert redacted.json()["redaction"]["completed_at"] is not None
    shown = http.get(f"/v1/cases/{case['id']}").json()
    assert shown == redacted.json() == http.post(f"/v1/cases/{case['id']}/redact").json()
    assert (shown["status"], shown["metadata"], shown["steps"], shown["checks"]) == ("redacted", {}, [], [])
    assert http.get(f"/v1/cases/{case['id']}/evidence").json() == []
    assert http.get(f"/v1/cases/{case['id']}/events").status_code == 204
    upload = http.put(f"/v1/cases/{case['id']}/uploads/front", content=video, headers={"Content-Type": "video/mp4"})
    assert (upload.status_code, upload.json()["code"]) == (409, "case_not_open")
    assert http.get("/v1/cases", params={"client_reference_id": name}).json()["data"] == []

    sums = [upload["sha256"].encode() for upload in uploads]
    assert traces(server_folder, name.encode(), marker, *sums) == [], "store, evidence and logs"
    assert not list(server_folder.rglob(f"*{case['id']}*")), "no folder and no Zarr group"
    end = time.monotonic() + 30
    while (found := left(cluster, marker, case["id"])) and time.monotonic() < end:
        time.sleep(0.2)  # workers hear a moment after the scheduler that they may drop what they hold
    assert found == [], "scheduler and workers"
    shown_log = subprocess.run(
        ["veridask", "audit", "show", "--case", case["id"], "--data-dir", server_folder],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert all(what in shown_log for what in ("case.created", "evidence.read", "case.redacted", "case.erased"))
    assert name not in shown_log
    subprocess.run(["veridask", "audit", "verify", "--data-dir", server_folder], check=True)


async def test_cases_whose_time_is_over_are_redacted_unasked(cluster: str, tmp_path: Path) -> None:
    kept = profiles()["standard"].retention_days
    assert kept == 90
    async with assembled(Settings(data_dir=tmp_path, scheduler=cluster)) as service:
        store = service.store
        old, young, open_one = await created(store), await created(store), await created(store)
        now = datetime.now(UTC)
        for case, days in ((old, kept + 1), (young, kept - 1)):
            await store.change(case.id, lambda c, d=days: cancel(c, now - timedelta(days=d)))  # type: ignore[misc]
        await service.redaction.sweep_once(now)
        status = await store.status_of([old.id, young.id, open_one.id])
        assert [status[case.id][0] for case in (old, young, open_one)] == ["redacted", "canceled", "requires_input"]
        assert (await store.get(old.id)).erased_at is not None
        last = (await store.audit.page(9, case_id=old.id))[1].entry
        assert (last.actor, last.action) == ("service", "case.redacted")


async def test_a_redaction_that_was_cut_off_is_finished(cluster: str, tmp_path: Path) -> None:
    """The process may die, or a bucket be away, between the store and what is left elsewhere."""
    async with assembled(Settings(data_dir=tmp_path, scheduler=cluster)) as service:
        store, evidence = service.store, service.evidence
        case = new_case()
        await store.create(Change(case, ()))
        await evidence.keep(await evidence.receive(body(b"media"), 99, case.id, "front", 1))
        await store.change(case.id, lambda c: cancel(c, NOW))
        await store.erasures.redact(case.id, NOW, "test")
        folder = tmp_path / "evidence" / "cases" / case.id
        assert (folder.exists(), (await store.get(case.id)).erased_at) == (True, None)
        await service.redaction.sweep_once(NOW)
        assert (folder.exists(), (await store.get(case.id)).erased_at is None) == (False, False)
        assert await store.erasures.unfinished(9) == []


async def test_a_redaction_and_another_change_do_not_undo_each_other(store: Store) -> None:
    case = await created(store)
    await store.change(case.id, lambda c: cancel(c, NOW))
    read = await store.get(case.id)
    await store.erasures.redact(case.id, NOW, "test")
    assert read.client_reference_id == "person 7"
    assert await store.change(case.id, lambda c: None if c.status == "redacted" else Change(read, ())) is None
    assert (await store.get(case.id)).client_reference_id is None
