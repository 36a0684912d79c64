"""Decoding in child processes: the same frames as in-process, and harmful files that affect only the child."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import Client, Scheduler

from benchmarks.fuzzing.media_bases import film, png
from graphs.records import Step
from models.errors import EmptyMediaError, MediaTooLargeError, UndecodableMediaError
from models.media.decoding import WIDEST, Frames, MediaLimits, sample_frames
from service.client import VeridaskClient
from service.settings.settings import Settings
from tests.support.made_media import LIMITS, MP4, WEBM, Image, card, moving, picture, video
from workers.cluster import EmbeddedCluster
from workers.decoding import Decoders, _frames
from workers.pool import models

SLOW = png(4096, 3904, 16, 6)
"""124 KB that take seconds to decode: 16 megapixels of 8 bytes."""


def decoded(decoders: Decoders, data: bytes) -> Frames:
    return decoders.sample_frames(data, rate_hz=20, max_frames=12, max_side=512, limits=LIMITS, details=3)


@pytest.fixture(scope="module")
def decoders() -> Decoders:
    return Decoders()


@pytest.mark.parametrize("data", [MP4, WEBM, picture(card()), video(moving(12, 720, 600))])
def test_frames_are_the_same_as_in_this_process(decoders: Decoders, data: bytes) -> None:
    here = sample_frames(data, rate_hz=20, max_frames=12, max_side=512, limits=LIMITS, details=3)
    there = decoded(decoders, data)
    assert there.info == here.info
    for name in ("images", "timestamps", "source_timestamps", "source_differences", "source_blocks"):
        mine, its = getattr(here, name), getattr(there, name)
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        np.testing.assert_array_equal(mine, its)
    assert len(there.details) == len(here.details) > 0
    for mine, its in zip(here.details, there.details, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_frames_live_on_when_their_child_has_ended() -> None:
    decoders = Decoders()
    frames = decoded(decoders, MP4)
    before = frames.images.copy()
    (pid,) = decoders.pids
    decoded(decoders, WEBM)  # the child's next media takes nothing from them
    del decoders
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid)
    np.testing.assert_array_equal(frames.images, before)
    frames.images[0] = 0  # as writable as any array


def test_what_is_kept_of_a_film_does_not_keep_its_images(decoders: Decoders) -> None:
    """Regression: the timestamps in the findings kept all frames of the film in memory while the case was open."""
    maps = Path("/proc/self/maps")
    before = maps.read_text("utf-8").count("memfd:frames")
    frames = decoded(decoders, MP4)
    assert maps.read_text("utf-8").count("memfd:frames") == before + 1
    kept = (frames.timestamps, frames.source_timestamps, frames.source_differences, frames.source_blocks)
    details = frames.details
    del frames
    assert maps.read_text("utf-8").count("memfd:frames") == before
    assert len(kept[0]) > 1
    assert details[0].any()


def test_what_the_media_is_to_blame_for_is_said_as_such(decoders: Decoders) -> None:
    with pytest.raises(EmptyMediaError):
        decoded(decoders, b"")
    with pytest.raises(UndecodableMediaError):
        decoded(decoders, MP4[:300])
    with pytest.raises(MediaTooLargeError):
        decoders.sample_frames(MP4, rate_hz=5, max_frames=4, max_side=64, limits=MediaLimits(max_side=50))
    assert len(decoders.pids) == 1, "none of it ended the child"


def test_a_child_that_crashes_takes_its_media_alone() -> None:
    decoders = Decoders()
    decoders.warm(1)
    (pid,) = decoders.pids
    threading.Timer(0.3, os.kill, (pid, signal.SIGSEGV)).start()
    with pytest.raises(UndecodableMediaError) as caught:
        decoded(decoders, SLOW)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert len(decoded(decoders, MP4).images) > 1
    assert decoders.pids != [pid]


def test_a_child_that_died_while_idle_is_replaced() -> None:
    decoders = Decoders()
    decoders.warm(1)
    (pid,) = decoders.pids
    os.kill(pid, signal.SIGKILL)
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert len(decoded(decoders, MP4).images) > 1


def test_a_decoder_that_does_not_end_is_ended() -> None:
    """Regression: a thread stuck in a decoder cannot be stopped, so it kept its core until the worker ended."""
    decoders = Decoders(longest_s=0.3)
    decoders.warm(1)
    (pid,) = decoders.pids
    with pytest.raises(UndecodableMediaError) as caught:
        decoded(decoders, SLOW)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert not psutil.pid_exists(pid)


def test_a_child_whose_worker_died_ends_by_itself() -> None:
    """Its processor time is limited too, because its parent can no longer end it by the clock."""
    decoders = Decoders(longest_s=7.0)
    decoded(decoders, MP4)
    (pid,) = decoders.pids
    found = re.search(r"Max cpu time +(\d+) ", Path(f"/proc/{pid}/limits").read_text("ascii"))
    assert found is not None
    assert 7 <= int(found[1]) <= 7 + 12


def test_a_child_ends_with_its_worker_in_the_midst_of_a_media() -> None:
    """Regression: it decoded its media to the end, wasting up to 45 s of a core."""
    decoders = Decoders()
    decoders.warm(1)
    (pid,) = decoders.pids
    (child,) = decoders._idle

    def ask() -> None:
        with pytest.raises(UndecodableMediaError):
            decoded(decoders, SLOW)

    asking = threading.Thread(target=ask)
    asking.start()
    process = psutil.Process(pid)
    began = process.cpu_times().user
    while process.cpu_times().user < began + 0.2:
        time.sleep(0.01)
    child._channel.shutdown(socket.SHUT_RDWR)  # what the kernel does for a worker that is killed
    asking.join()
    assert child.status == -signal.SIGIO


def test_what_was_freed_goes_back_while_there_is_nothing_to_do() -> None:
    """Regression: while a child waited, its freed memory still contained parts of the last person's media."""
    script = (
        "import psutil, workers.confinement as confinement\n"
        "confinement.FORGET_S = 0.1\n"
        "held = [b'1' * 65536 for _ in range(1000)]\n"
        "top = bytes(100)\n"
        "del held[:-1]\n"
        "print(psutil.Process().memory_info().rss, flush=True)\n"
        "confinement.wait(0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    before, taken = int(process.stdout.readline()), psutil.Process(process.pid)
    deadline = time.monotonic() + 20
    while (now := taken.memory_info().rss) > before - 50 * 2**20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.communicate()
    assert process.returncode == 0
    assert now < before - 50 * 2**20


def test_a_child_keeps_freed_memory_for_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: with the nanny's malloc settings, each frame's memory was allocated anew from the system."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    decoders = Decoders()
    decoders.warm(1)
    environment = Path(f"/proc/{decoders.pids[0]}/environ").read_bytes().split(b"\0")
    assert b"MALLOC_TRIM_THRESHOLD_=134217728" in environment


def test_the_memory_of_a_media_itself_is_not_counted() -> None:
    """Regression: workers could not decode any film of the largest size that the service can be set to accept."""
    decoders = Decoders(memory_bytes=112 * 1024**2)
    padded = MP4 + (8 + 200_000_000).to_bytes(4, "big") + b"free" + bytes(200_000_000)
    frames = decoders.sample_frames(padded, rate_hz=20, max_frames=12, max_side=512, limits=WIDEST)
    assert len(frames.images) > 1


def test_no_answer_of_a_child_is_taken_for_addresses() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(64))
        file.flush()
        with pytest.raises(ValueError, match="addresses"):
            _frames({"arrays": {"images": ("|O", (2,), 0)}, "info": {}}, file.fileno())


def test_a_film_of_many_reference_frames_stays_within_its_memory() -> None:
    """Regression: decoding a film of 1.1 MB took 1.5 GB in the worker, and ended it for all other cases too."""
    lavish: list[Image] = [np.full((720, 1280, 3), 20 * number, np.uint8) for number in range(6)] * 3
    data = film("mp4", "libx264", lavish, "yuv444p10le", preset="ultrafast", **{"x264-params": "ref=16:log-level=-1"})
    decoders = Decoders(memory_bytes=112 * 1024**2)
    decoders.warm(1)
    (pid,) = decoders.pids
    with contextlib.suppress(UndecodableMediaError):  # it may show what decoded before the bound
        decoded(decoders, data)
    assert decoders.pids == [pid], "the child lives"
    peak_kib = int(Path(f"/proc/{pid}/status").read_text("ascii").split("VmHWM:")[1].split()[0])
    assert peak_kib < 150 * 1024, "private memory and the libraries; without a bound it takes 170 MB"
    assert len(decoded(decoders, MP4).images) > 1


@pytest.mark.parametrize(
    ("setting", "limit"),
    [("max_upload_bytes", "max_bytes"), ("max_media_seconds", "max_seconds"), ("max_media_side", "max_side")],
)
def test_workers_take_what_a_service_may_be_set_to_take(setting: str, limit: str) -> None:
    """Regression: a service set to accept films of a minute accepted them, but its workers called them undecodable."""
    (most,) = (bound.le for bound in Settings.model_fields[setting].metadata if hasattr(bound, "le"))
    assert most == getattr(WIDEST, limit)


def test_a_long_film_is_decoded_where_the_service_takes_it() -> None:
    from graphs import document

    step: Step = "front"
    slow = video(moving(5), pts=[0, 10_000, 20_000, 30_000, 40_000])  # by their times, milliseconds
    with pytest.raises(MediaTooLargeError):
        sample_frames(slow, rate_hz=1, max_frames=5, max_side=64, limits=MediaLimits())
    assert document.frames(slow, step, models()).info.duration_s == pytest.approx(40, abs=0.1)


@pytest.mark.cluster
def test_a_crash_in_a_decoder_asks_the_person_again(
    client: VeridaskClient, embedded: tuple[EmbeddedCluster, str], video: bytes
) -> None:
    """Regression: in the worker's own process it ended the worker, up to four times, and its data was lost."""
    worker = psutil.Process(embedded[0].processes["cpu-0"])

    def children() -> list[psutil.Process]:
        return [child for child in worker.children() if "workers.decoder_child" in " ".join(child.cmdline())]

    def decoding(dask_scheduler: Scheduler) -> bool:
        return dask_scheduler.tasks[f"frames_front-{case.id}-front1"].state == "processing"

    case = client.create("recorded")
    stopped = children()
    assert stopped, "warm before the first upload"
    for child in stopped:
        child.suspend()
    client.upload(case.id, "front", video, "video/mp4")
    deadline = time.monotonic() + 60
    with Client(embedded[1], set_as_default=False) as dask:
        while not dask.run_on_scheduler(decoding) and time.monotonic() < deadline:
            time.sleep(0.05)
    time.sleep(0.5)  # from the scheduler's message until the child decodes
    for child in stopped:
        child.kill()
    while client.case(case.id).steps[0].state != "retake" and time.monotonic() < deadline:
        time.sleep(0.05)
    front = client.case(case.id).steps[0]
    assert (front.step, front.state) == ("front", "retake")
    assert [reason.code for reason in front.reasons] == ["undecodable_media"]
    assert embedded[0].processes["cpu-0"] == worker.pid
    client.upload(case.id, "front", video, "video/mp4")  # a new child takes it
    while client.case(case.id).steps[0].state != "retake" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [reason.code for reason in client.case(case.id).steps[0].reasons] == ["no_document_in_image"]
    client.cancel(case.id)
