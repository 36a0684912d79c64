"""The probe of the API: a child process that opens sealed media, within bounds of time and memory."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.fuzzing.media_bases import bomb
from models.errors import EmptyMediaError, MediaTypeError, UndecodableMediaError
from models.media.decoding import MediaLimits
from service.crypto.sealing import Sealer
from service.errors import SealBrokenError
from service.evidence.prober import Prober


def write(path: Path, content: bytes) -> bytes:
    """Write a sealed media; gives the key that opens it."""
    sealer = Sealer(bytes(32), "place")
    path.write_bytes(b"".join((*sealer.update(content), *sealer.finish())))
    return sealer.key


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    prober = Prober(1, 5.0, MediaLimits())
    await prober.start()
    yield prober
    await prober.close()


async def test_the_probe_answers_and_survives_its_child(
    prober: Prober, tmp_path: Path, video: bytes, picture: bytes
) -> None:
    path = tmp_path / "media"
    key = write(path, video)
    info = await prober.probe(path, key, "video/mp4")
    assert (info.kind, info.width, info.height, info.size_bytes) == ("video", 64, 64, len(video))
    with pytest.raises(MediaTypeError):
        await prober.probe(path, key, "video/webm")
    with pytest.raises(SealBrokenError):
        await prober.probe(path, bytes(32), "video/mp4")
    key = write(path, b"")
    with pytest.raises(EmptyMediaError):
        await prober.probe(path, key, "video/mp4")
    for child in prober._alive:
        child.process.kill()
    key = write(path, picture)
    for _ in range(2):  # the first question may still reach the dying child; the next has a new one
        try:
            assert (await prober.probe(path, key, "image/jpeg")).kind == "image"
            break
        except UndecodableMediaError:
            continue
    assert (await prober.probe(path, key, "image/jpeg")).kind == "image"


async def test_media_that_stalls_the_decoder_is_undecodable(tmp_path: Path, video: bytes) -> None:
    """A pipe that is never written to stands for a file that the decoder does not finish with."""
    prober = Prober(1, 0.5, MediaLimits())
    await prober.start()
    os.mkfifo(tmp_path / "stalls")
    started = time.monotonic()
    with pytest.raises(UndecodableMediaError):
        await prober.probe(tmp_path / "stalls", bytes(32), "video/mp4")
    assert time.monotonic() - started < 3
    key = write(tmp_path / "media", video)
    prober._timeout_s = 5.0
    assert (await prober.probe(tmp_path / "media", key, "video/mp4")).kind == "video"
    await prober.close()


def told(prober: Prober, name: str) -> str:
    """What the kernel tells of the one probe process."""
    (child,) = prober._alive
    return Path(f"/proc/{child.process.pid}/{name}").read_text("ascii")


async def test_media_that_becomes_large_takes_no_more_than_it_may(tmp_path: Path, picture: bytes) -> None:
    """390 KB of text in a PNG became 400 MB and more, of 3 GB that were allowed: more than an API's container has."""
    prober = Prober(1, 30.0, MediaLimits(), memory_bytes=256 * 1024**2)
    await prober.start()
    key = write(tmp_path / "bomb", bomb("PNG with 400 MB of text").data)
    with contextlib.suppress(UndecodableMediaError):  # or the picture is shown, without its text
        await prober.probe(tmp_path / "bomb", key, "image/png")
    assert int(re.findall(r"VmHWM:\s+(\d+) kB", told(prober, "status"))[0]) < 320 * 1024, "and the libraries"
    key = write(tmp_path / "media", picture)
    assert (await prober.probe(tmp_path / "media", key, "image/jpeg")).kind == "image"
    await prober.close()


async def test_a_probe_leaves_no_core_and_dies_first(prober: Prober) -> None:
    assert re.search(r"Max core file size +0 +0 ", told(prober, "limits"))
    assert told(prober, "oom_score_adj").strip() == "1000"
