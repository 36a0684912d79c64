"""The evidence on a real folder: whole files or none, and nothing that a client names becomes a path."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from graphs.records import Step
from models.errors import EmptyMediaError, MediaTooLargeError
from service.crypto.client_secrets import service_key
from service.errors import EvidenceUnavailableError
from service.evidence.backends import EvidenceBackend, FolderBackend, ObjectStorageBackend
from service.evidence.evidence import Evidence
from service.evidence.findings import ROOT_GROUP, decode_group, encode_group, group_root
from service.lifecycle.case import Change
from service.lifecycle.identifiers import is_case_id, time_ordered
from service.store.cases import CaseStore
from tests.support.case_stores import KEYS, new_case
from tests.support.object_storage import BUCKET

CASE = "case_01kb0000000000000000000000"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def kept(evidence: Evidence, content: bytes, case_id: str, step: Step) -> str:
    return await evidence.store(await evidence.receive(chunks(content), 100, case_id, step, 1))


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[CaseStore]:
    """A case store that holds the data key of the case."""
    store = CaseStore(f"sqlite:///{tmp_path / 'cases.sqlite'}", lambda _: None, KEYS)
    await store.start()
    await store.create(Change(replace(new_case(), id=CASE), ()))
    yield store
    await store.close()


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> ObjectStorageBackend:
    """Object storage that each test begins with empty."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()
    return ObjectStorageBackend(f"s3://{BUCKET}/{digest}", s3)


@pytest.fixture(params=["folder", "bucket"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> EvidenceBackend:
    """Both places where evidence is kept."""
    if request.param == "bucket":
        made: EvidenceBackend = request.getfixturevalue("bucket")
        return made
    return FolderBackend(tmp_path / "evidence")


@pytest.fixture
def evidence(tmp_path: Path, keys: CaseStore, store: EvidenceBackend) -> Evidence:
    evidence = Evidence(tmp_path / "evidence", keys, backend=store)
    evidence.start(set())
    return evidence


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "evidence"


def files(evidence: Evidence, root: Path) -> list[str]:
    """What is kept and what is on its way."""
    kept = [key for key, _ in evidence.backend.media()]
    return sorted(kept + [p.relative_to(root).as_posix() for p in (root / "incoming").iterdir()])


async def test_a_piece_is_sealed_for_itself_and_swept_like_media(evidence: Evidence, root: Path) -> None:
    content = os.urandom(200_000)
    one, other = await evidence.store_piece(CASE, content), await evidence.store_piece(CASE, content)
    assert await evidence.read(one) == await evidence.read(other) == content
    raw = [b"".join(evidence.backend.chunks(key)) for key in (one, other)]
    assert raw[0] != raw[1]
    assert content[:16] not in raw[0] + raw[1]
    assert files(evidence, root) == sorted([one, other])
    full = Evidence(root, evidence._keys, 2**62, evidence.backend)
    with pytest.raises(EvidenceUnavailableError):
        await full.store_piece(CASE, content)
    with pytest.raises(ValueError, match="id of a case"):
        await evidence.store_piece("../x", content)
    await asyncio.to_thread(evidence.backend.remove_case, CASE)
    assert files(evidence, root) == []


async def test_a_media_is_kept_as_it_was_received(evidence: Evidence, root: Path) -> None:
    parts = [os.urandom(700_000) for _ in range(5)]
    incoming = await evidence.receive(chunks(*parts), 4_000_000, CASE, "front", 1)
    assert (incoming.size, incoming.sha256) == (3_500_000, hashlib.sha256(b"".join(parts)).hexdigest())
    await evidence.sync(incoming)
    key = await evidence.store(incoming)
    assert await evidence.read(key) == b"".join(parts)
    assert files(evidence, root) == [key]
    evidence.discard(incoming)
    assert files(evidence, root) == [key]


@pytest.mark.parametrize(
    ("parts", "error"), [([b""], EmptyMediaError), ([], EmptyMediaError), ([b"x" * 60, b"x" * 60], MediaTooLargeError)]
)
async def test_a_refused_media_leaves_nothing(
    evidence: Evidence, root: Path, parts: list[bytes], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await evidence.receive(chunks(*parts), 100, CASE, "front", 1)
    assert files(evidence, root) == []


async def test_a_body_is_refused_as_soon_as_it_is_too_large(evidence: Evidence, root: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield b"x" * 1000

    with pytest.raises(MediaTooLargeError):
        await evidence.receive(endless(), 10_000, CASE, "front", 1)
    assert taken == 11_000


async def test_a_sender_that_goes_away_leaves_nothing(evidence: Evidence, root: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, EvidenceUnavailableError)):
        await evidence.receive(broken(), 10_000_000, CASE, "front", 1)
    assert files(evidence, root) == []


async def test_a_start_removes_what_was_never_acknowledged(root: Path, keys: CaseStore) -> None:
    evidence = Evidence(root, keys)
    evidence.start(set())
    known = await kept(evidence, b"known", CASE, "front")
    orphan = await kept(evidence, b"orphan", CASE, "back")
    await evidence.receive(chunks(b"half"), 100, CASE, "front", 1)
    evidence.close()  # a process that is killed lets go of its lock as well
    after = Evidence(root, keys)
    assert after.start({known}) == [orphan]
    assert files(after, root) == [known]


async def test_a_start_leaves_what_a_living_process_has_under_way(root: Path, keys: CaseStore) -> None:
    evidence = Evidence(root, keys)
    evidence.start(set())
    half = await evidence.receive(chunks(b"half"), 100, CASE, "front", 1)
    young = await kept(evidence, b"young", CASE, "front")
    forgotten = await kept(evidence, b"old", CASE, "back")
    os.utime(root / forgotten, (0, 0))
    other = Evidence(root, keys)
    assert other.start(set()) == [forgotten]
    assert half.path.exists()
    assert files(other, root) == sorted([young, half.path.relative_to(root).as_posix()])
    evidence.close()
    third = Evidence(root, keys)
    third.start(set())
    assert not half.path.exists()
    assert (root / young).exists(), "the second process may be about to record it"


async def test_a_start_leaves_young_objects_that_another_host_may_record(
    root: Path, keys: CaseStore, bucket: ObjectStorageBackend
) -> None:
    evidence = Evidence(root, keys, backend=bucket)
    evidence.start(set())
    young = await kept(evidence, b"young", CASE, "front")
    evidence.close()
    assert Evidence(root, keys, backend=bucket).start(set()) == []
    assert await evidence.read(young) == b"young"
    await evidence.remove(young)
    await evidence.remove(young)
    with pytest.raises(EvidenceUnavailableError):
        await evidence.read(young)


async def test_object_storage_that_is_away_says_so(root: Path, keys: CaseStore, bucket: ObjectStorageBackend) -> None:
    """Within seconds: the default of the library is to try for three minutes, while the sender waits for an answer."""
    away = ObjectStorageBackend("s3://evidence/x", "http://127.0.0.1:1")
    evidence = Evidence(root, keys, backend=away)
    with pytest.raises(EvidenceUnavailableError):
        evidence.start(set())
    incoming = await evidence.receive(chunks(b"x"), 100, CASE, "front", 1)
    began = time.monotonic()
    with pytest.raises(EvidenceUnavailableError):
        await evidence.store(incoming)
    assert time.monotonic() - began < 30
    assert incoming.path.exists(), "it can be tried again"
    with pytest.raises(EvidenceUnavailableError):
        await evidence.require_usable()


async def test_a_bucket_that_is_not_there_says_so(root: Path, keys: CaseStore, s3: str) -> None:
    evidence = Evidence(root, keys, backend=ObjectStorageBackend("s3://nothing-here/x", s3))
    with pytest.raises(EvidenceUnavailableError):
        evidence.start(set())
    with pytest.raises(EvidenceUnavailableError):
        await evidence.require_usable()
    with pytest.raises(EvidenceUnavailableError):
        await kept(evidence, b"x", CASE, "front")


async def test_a_full_or_unwritable_store_says_so(tmp_path: Path, keys: CaseStore) -> None:
    full = Evidence(tmp_path / "evidence", keys, min_free=2**62)
    full.start(set())
    with pytest.raises(EvidenceUnavailableError, match="full"):
        await full.receive(chunks(b"x"), 100, CASE, "front", 1)
    with pytest.raises(EvidenceUnavailableError, match="full"):
        await full.require_usable()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvidenceUnavailableError):
        Evidence(tmp_path / "file" / "evidence", keys).start(set())


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from service.errors import EvidenceUnavailableError
from service.evidence.evidence import Evidence

class Keys:
    async def data_key(self, case_id):
        return bytes(32)

async def parts():
    for _ in range(64):
        yield bytes(1024 * 1024)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024 * 1024, 8 * 1024 * 1024))
evidence = Evidence(Path(sys.argv[1]), Keys())
evidence.start(set())
try:
    asyncio.run(evidence.receive(parts(), 2**30, "case_01kb0000000000000000000000", "front", 1))
except EvidenceUnavailableError:
    print(sorted(p.name for p in Path(sys.argv[1]).rglob("*") if p.is_file() and p.suffix != ".lock"))
"""


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses the ninth megabyte, as a full disk would."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "evidence")], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("case_id", ["../../x", "case_../../../../etc/cron.d/x", "case_" + "0" * 25, "", CASE + "\n"])
async def test_only_ids_become_paths(evidence: Evidence, case_id: str) -> None:
    assert not is_case_id(case_id)
    with pytest.raises(ValueError, match="not the id"):
        await kept(evidence, b"x", case_id, "front")
    with pytest.raises(ValueError, match="not the id"):
        group_root(case_id)


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = []
    for _ in range(20):
        ids += [time_ordered("case") for _ in range(50)]
        time.sleep(0.002)
    assert len(set(ids)) == 1000
    assert [i[:15] for i in ids] == sorted(i[:15] for i in ids)
    assert all(map(is_case_id, ids))


def test_the_service_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    key = service_key(tmp_path)
    assert (len(key), service_key(tmp_path)) == (32, key)
    assert (tmp_path / "service.key").stat().st_mode & 0o077 == 0


async def test_findings_of_all_steps_are_one_zarr_group(evidence: Evidence, root: Path) -> None:
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    with pytest.raises(FileNotFoundError):
        await evidence.group(CASE)
    await evidence.store_findings(
        CASE, "front", 1, {"frames": frames}, {"pages": np.float32(2.5), "none": float("nan")}
    )
    chips: dict[str, np.ndarray] = {"embeddings": np.ones((3, 128), np.float32), "empty": np.zeros((0, 4))}
    await evidence.store_findings(CASE, "face", 1, chips, {})
    await evidence.store_findings(CASE, "front", 2, {"pages": frames[:1]}, {"pages": 1})
    group = await evidence.group(CASE)
    assert sorted(group.group_keys()) == ["face", "front"]
    front = group["front"]
    assert isinstance(front, zarr.Group)
    assert list(front) == ["pages"], "nothing is left of the first attempt"
    np.testing.assert_array_equal(np.asarray(front["pages"]), frames[:1])
    assert dict(front.attrs) == {"pages": 1, "attempt": 2}
    assert {name: np.asarray(group[f"face/{name}"]).shape for name in ("embeddings", "empty")} == {
        "embeddings": (3, 128),
        "empty": (0, 4),
    }
    if isinstance(evidence.backend, FolderBackend):
        assert [p.name for p in (root / "cases" / CASE).iterdir()] == ["findings.zarr"]


def test_a_step_that_is_being_written_is_not_seen() -> None:
    """Object storage gets file by file, the group's own metadata last; zarr warned of the files without it."""
    step = encode_group({"values": np.arange(3)}, {"attempt": 1})
    whole = {"zarr.json": ROOT_GROUP, **{f"face/{path}": content for path, content in step.items()}}
    half = {f"front/{path}": content for path, content in step.items() if path != "zarr.json"}
    group = decode_group({**whole, **half})
    assert list(group.group_keys()) == ["face"]
    np.testing.assert_array_equal(np.asarray(group["face/values"]), np.arange(3))
    with pytest.raises(FileNotFoundError):
        decode_group({})


@pytest.mark.parametrize("does", ["unlink", "rmdir"])
def test_another_may_be_at_a_case_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """A sweep beside a request was faster with one file: the request stopped there and said that all was gone. Findings
    that came meanwhile made a folder not empty: it said that the evidence was away.
    """
    store = FolderBackend(tmp_path / "evidence")
    store.remove_case("case_before_any")
    case = store.root / "cases" / "case_1"
    (case / "group").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (case / "group" / name).write_bytes(b"x")
    really, meanwhile = getattr(os, does), [True]

    def beside(path: str, **where: int) -> None:
        if meanwhile and meanwhile.pop():
            if does == "unlink":
                really(path, **where)
            else:
                (case / "group" / "d").write_bytes(b"x")
        really(path, **where)

    monkeypatch.setattr(os, does, beside)
    store.remove_case(case.name)
    assert not case.exists()
