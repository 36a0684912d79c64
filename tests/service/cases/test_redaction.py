"""Redaction through the running system: what is left of a person in the store, the evidence, the logs, the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import httpx
import numpy as np
import pytest
import torch
from distributed import Client

from graphs.flow import steps_of
from graphs.profile import profiles
from models.mrz.names import compose_names
from service.assembly import assembled, opened_to_read
from service.client import VeridaskClient
from service.lifecycle.case import Change
from service.lifecycle.transitions import cancel
from service.server.local import Running
from service.store.cases import CaseStore
from tests.support.case_stores import NOW, created, new_case
from tests.support.data_folders import database_url, everything_in, settings_in
from tests.support.on_disk import body, traces
from tests.support.scenario_films import GENUINE, STEPS, filmed, holder

pytestmark = pytest.mark.cluster


def as_bytes(one: object) -> bytes:
    """What an object holds itself: a text, bytes, or an array's or a tensor's numbers."""
    if isinstance(one, str):
        return one.encode(errors="replace")
    if type(one).__name__ == "Tensor":
        one = one.numpy(force=True)  # type: ignore[attr-defined]
    return bytes(one) if isinstance(one, bytes | bytearray | memoryview | np.ndarray) else b""


def holders(markers: list[bytes], case_id: str, dask_worker: Any = None, dask_scheduler: Any = None) -> list[str]:
    """What in this process's objects holds a marker, and which tasks and data name the case."""
    node = dask_worker or dask_scheduler
    worker = hasattr(node, "data")
    found = [f"task {key}" for key in (node.state.tasks if worker else node.tasks) if case_id in str(key)]
    if worker:
        found += [f"data {key}" for key in node.data if case_id in str(key)]
    for owner in objects():
        if owner is markers:
            continue
        for one in gc.get_referents(owner):
            held = as_bytes(one)
            found += [
                f"marker {number} in a {type(one).__name__} of {len(held)} bytes in a {type(owner).__name__}"
                for number, marker in enumerate(markers)
                if len(held) > len(marker) and marker in held
            ]
    return found


def objects() -> Iterator[object]:
    """Everything that can hold a text, bytes or an array: those are not tracked themselves, and neither is a dictionary
    or a tuple that holds nothing else.
    """
    for tracked in gc.get_objects():
        inside = [tracked]
        while inside:
            yield (owner := inside.pop())
            inside += [o for o in gc.get_referents(owner) if isinstance(o, dict | tuple) and not gc.is_tracked(o)]


def left(cluster: str, markers: list[bytes], case_id: str) -> list[str]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not know the tests' modules
    with Client(cluster, set_as_default=False) as client:
        workers = client.run(holders, markers, case_id)
        return [
            *(f"{address}: {what}" for address, found in workers.items() for what in found),
            *client.run_on_scheduler(holders, markers, case_id),
        ]


def left_in_the_end(cluster: str, markers: list[bytes], case_id: str) -> list[str]:
    """What the cluster goes on holding: workers hear a moment after the scheduler that they may drop what they hold."""
    end = time.monotonic() + 30
    while (found := left(cluster, markers, case_id)) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def with_marker(video: bytes, marker: bytes) -> bytes:
    """The same MP4 with a box of free space that holds the marker (ISO/IEC 14496-12, 8.1.2)."""
    return video + (8 + len(marker)).to_bytes(4, "big") + b"free" + marker


def audit_command(folder: Path, *words: str) -> str:
    """What `veridask audit` prints of a data folder's case store."""
    environment = {**os.environ, "VERIDASK_DATABASE_URL": database_url(folder)}
    command = [sys.executable, "-m", "service.cli", "audit", *words, "--data-dir", str(folder)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


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
    assert known["status"] != "requires_input" or left(cluster, [marker], case["id"]), "the search finds what is there"
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
    assert case["id"].encode() in (rows := everything_in(server_folder)), "the search finds what is there"
    assert [found for found in (name.encode(), marker, *sums) if found in rows] == []
    assert not list(server_folder.rglob(f"*{case['id']}*")), "no folder and no Zarr group"
    assert left_in_the_end(cluster, [marker], case["id"]) == [], "scheduler and workers"
    shown_log = audit_command(server_folder, "show", "--case", case["id"])
    assert all(what in shown_log for what in ("case.created", "evidence.read", "case.redacted", "case.erased"))
    assert name not in shown_log
    audit_command(server_folder, "verify")


async def test_cases_whose_time_is_over_are_redacted_unasked(cluster: str, tmp_path: Path) -> None:
    kept = profiles()["standard"].retention_days
    assert kept == 90
    async with assembled(settings_in(tmp_path, scheduler=cluster)) as service:
        store = service.store
        old, young, open_one = await created(store), await created(store), await created(store)
        now = datetime.now(UTC)
        for case, days in ((old, kept + 1), (young, kept - 1)):
            await store.change(case.id, lambda c, d=days: cancel(c, now - timedelta(days=d)))  # type: ignore[misc]
        await service.redaction.sweep(now)
        status = await store.status_of([old.id, young.id, open_one.id])
        assert [status[case.id][0] for case in (old, young, open_one)] == ["redacted", "canceled", "requires_input"]
        assert (await store.get(old.id)).erased_at is not None
        last = (await store.audit.page(9, case_id=old.id))[1].entry
        assert (last.actor, last.action) == ("service", "case.redacted")


async def test_a_redaction_that_was_cut_off_is_finished(cluster: str, tmp_path: Path) -> None:
    """The process may die, or a bucket be away, between the store and what is left elsewhere."""
    async with assembled(settings_in(tmp_path, scheduler=cluster)) as service:
        store, evidence = service.store, service.evidence
        case = new_case()
        await store.create(Change(case, ()))
        await evidence.store(await evidence.receive(body(b"media"), 99, case.id, "front", 1))
        await store.change(case.id, lambda c: cancel(c, NOW))
        await store.erasures.redact(case.id, NOW, "test")
        folder = tmp_path / "evidence" / "cases" / case.id
        assert (folder.exists(), (await store.get(case.id)).erased_at) == (True, None)
        await service.redaction.sweep(NOW)
        assert (folder.exists(), (await store.get(case.id)).erased_at is None) == (False, False)
        assert await store.erasures.unfinished(9) == []


async def test_a_redaction_and_another_change_do_not_undo_each_other(store: CaseStore) -> None:
    case = await created(store)
    await store.change(case.id, lambda c: cancel(c, NOW))
    read = await store.get(case.id)
    await store.erasures.redact(case.id, NOW, "test")
    assert read.client_reference_id == "person 7"
    assert await store.change(case.id, lambda c: None if c.status == "redacted" else Change(read, ())) is None
    assert (await store.get(case.id)).client_reference_id is None


def test_the_search_finds_texts_bytes_arrays_and_tensors(cluster: str) -> None:
    """What the tests below do not find would be worth nothing otherwise."""
    markers = [secrets.token_hex(16).encode() for _ in range(4)]
    whole = [b"before " + marker + b" after" for marker in markers]
    arrays = [np.frombuffer(held, np.uint8).copy() for held in whole[2:]]
    data = {
        "text": [whole[0].decode()],
        "bytes": {"b": whole[1]},
        "array": [arrays[0]],
        "tensor": [torch.tensor(arrays[1])],
    }
    with Client(cluster, set_as_default=False) as client:
        held = client.scatter(data, broadcast=True)
        found = left(cluster, markers, "no case")
        assert all(any(f"marker {number} in a {kind} " in one for one in found)
                   for number, kind in enumerate(("str", "bytes", "ndarray", "Tensor"))), found  # fmt: skip
        del held
    assert left_in_the_end(cluster, markers, "no case") == []


@pytest.mark.vision
@pytest.mark.timeout(300)
def test_nothing_is_left_of_a_person_who_was_approved(
    server: Running, server_folder: Path, cluster: str, client: VeridaskClient, http: httpx.Client
) -> None:
    """Name, number, embeddings, portraits, pages and films of a synthetic person whom no other test knows."""
    films = {step: filmed(GENUINE, step, seed=9377) for step in STEPS}
    card_holder = holder(GENUINE, seed=9377)
    said = [compose_names(card_holder.surname, card_holder.given_names, 30).strip("<"), card_holder.number]
    markers = [*(text.encode() for text in said), *(film[len(film) // 2 :][:64] for film in films.values())]
    case = client.create("recorded")
    client.upload(case.id, "front", films["front"], "video/mp4")
    client.upload(case.id, "back", films["back"], "video/mp4")
    # The search takes hold of objects that a running task is still making, which ends such a task with a SystemError.
    documents = {check for check in profiles()["recorded"].policy.checks if steps_of(check) <= {"front", "back"}}
    while not documents <= {check.name for check in client.case(case.id).checks}:
        time.sleep(0.1)
    while not all(any(f"marker {number} in" in one for one in left(cluster, markers, case.id)) for number in (0, 1)):
        time.sleep(0.2)  # the cluster holds what was read until the face is there
    client.upload(case.id, "face", films["face"], "video/mp4")
    decided = client.decided(case.id)
    assert decided.decision is not None
    assert decided.decision.outcome == "approved"
    markers += asyncio.run(kept_arrays(case.id, server, server_folder))

    redacted = http.post(f"/v1/cases/{case.id}/redact").json()
    assert redacted["redaction"]["completed_at"] is not None
    assert left_in_the_end(cluster, markers, case.id) == [], "scheduler and workers"
    assert traces(server_folder, *markers) == [], "store, evidence and logs"
    assert [found for found in markers if found in everything_in(server_folder)] == []
    assert not list(server_folder.rglob(f"*{case.id}*")), "no folder and no Zarr group"
    audit_command(server_folder, "verify")


async def kept_arrays(case_id: str, server: Running, folder: Path) -> list[bytes]:
    """A piece of an embedding, of a portrait and of a page, as the evidence holds them of a decided case."""
    async with opened_to_read(settings_in(folder, scheduler=server.scheduler)) as (_, evidence):
        while True:
            with contextlib.suppress(FileNotFoundError):  # findings are written when nobody waits any more
                found = await evidence.findings(case_id, "test")
                if set(found.group_keys()) == set(STEPS):
                    break
            await asyncio.sleep(0.2)
        arrays = [np.asarray(found[path]) for path in ("face/embeddings", "face/chips", "front/pages")]
    return [part[len(part) // 2 :][:64] for part in (array[0].tobytes() for array in arrays)]


async def test_a_sweep_and_a_request_finish_one_redaction_once(store: CaseStore) -> None:
    """Both once said so: two lines in the audit log, and another time in the answer than in the next one."""
    case = await created(store)
    await store.change(case.id, lambda c: cancel(c, NOW))
    await store.erasures.redact(case.id, NOW, "test")
    assert await store.erasures.mark_erased(case.id, NOW) == NOW
    assert await store.erasures.mark_erased(case.id, NOW + timedelta(seconds=1)) == NOW
    assert (await store.get(case.id)).erased_at == NOW
    lines = await store.audit.page(9, case_id=case.id)
    assert [line.entry.action for line in lines].count("case.erased") == 1
