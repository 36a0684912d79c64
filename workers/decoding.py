"""Decodes media in child processes of the worker.

A file that makes a decoder crash, hang or use too much memory ends a child, never the worker with the data of other
cases. Such files exist: a film of 1.1 MB within all limits (16 megapixels, 10 bits, 4:4:4, 16 reference frames) takes
1.5 GB to decode, and a thread that hangs in a decoder cannot be stopped. The probe before an upload is accepted sees
only the first frame.

A child (`workers.decoder_child`) decodes one media at a time and passes the frames in shared memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import EmptyMediaError, MediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError
from models.media.decoding import Frames, MediaInfo, MediaLimits
from workers.confinement import child_environment

logger = logging.getLogger(__name__)

MEMORY_BYTES = 768 * 1024**2
"""Memory limit of one child, besides the media itself. A film of 16 megapixels in the most common coding (8 bits,
4:2:0) with 16 reference frames takes 520 MB.
"""
LONGEST_S = 45.0
"""Time limit for one media, below the time limit of a node. Ten seconds of 1920 × 1080 take one to two seconds."""
_START_S = 30.0
_LARGEST_MESSAGE = 64 * 1024
_ERRORS: Mapping[str, type[MediaError]] = {
    error.__name__: error for error in (EmptyMediaError, UndecodableMediaError, MediaTypeError, MediaTooLargeError)
}


class Decoders:
    """A pool of decoding processes, one for each concurrent call.

    memory_bytes, longest_s: limits for one media: bytes of memory besides the media itself, and seconds.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, longest_s: float = LONGEST_S) -> None:
        self._memory_bytes = memory_bytes
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def warm(self, count: int) -> None:
        """Start children until this many are ready."""
        children = [_Child(self._memory_bytes) for _ in range(count - len(self._idle))]
        for child in children:
            child.wait()
        with self._lock:
            self._idle += children

    @property
    def pids(self) -> list[int]:
        """Process ids of the idle children."""
        with self._lock:
            return [child.pid for child in self._idle]

    def sample_frames(
        self, data: bytes, *, rate_hz: float, max_frames: int, max_side: int, limits: MediaLimits, details: int = 0
    ) -> Frames:
        """Run `models.media.decoding.sample_frames` in a child. Raises the same errors.

        Raises UndecodableMediaError also if the child dies or does not finish in time.
        """
        sample = {"rate_hz": rate_hz, "max_frames": max_frames, "max_side": max_side, "details": details}
        question = {"sample": sample, "limits": asdict(limits), "seconds": self._longest_s}
        with _in_shared_memory(data) as media:
            return self._ask(question, media)

    def _ask(self, question: Mapping[str, Any], media: int) -> Frames:
        child = self._taken()
        try:
            frames = child.ask(question, media, self._longest_s)
        except MediaError:
            self._put_back(child)
            raise
        except (OSError, ValueError, TypeError, LookupError) as error:
            child.end()
            logger.warning("a decoding process ended with %s on %s", child.status, type(error).__name__)
            raise UndecodableMediaError("the media cannot be decoded") from error
        except BaseException:
            child.end()
            raise
        self._put_back(child)
        return frames

    def _taken(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.status is None:
                    return child
        child = _Child(self._memory_bytes)
        child.wait()
        return child

    def _put_back(self, child: _Child) -> None:
        with self._lock:
            self._idle.append(child)


class _Child:
    """One decoding process. It ends at the latest when this object is garbage-collected."""

    def __init__(self, memory_bytes: int) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.decoder_child", str(theirs.fileno()), str(memory_bytes)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches only the worker, which ends it
            )
        self.end = weakref.finalize(self, _end, self._process, self._channel)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self) -> None:
        """Wait until it is ready. Raises OSError if it does not start."""
        self._channel.settimeout(_START_S)
        if not self._channel.recv(_LARGEST_MESSAGE):
            raise ConnectionError("the decoding process did not start")

    def ask(self, question: Mapping[str, Any], media: int, longest_s: float) -> Frames:
        """The frames of one media. Raises MediaError, OSError, and any error of a malformed answer."""
        self._channel.settimeout(longest_s)
        socket.send_fds(self._channel, [json.dumps(question).encode()], [media])
        message, files, _, _ = socket.recv_fds(self._channel, _LARGEST_MESSAGE, 1)
        try:
            if not message:
                raise ConnectionError("the decoding process ended")
            answer = json.loads(message)
            if "error" in answer:
                raise _ERRORS[answer["error"]](answer["detail"])
            return _frames(answer, files[0])
        finally:
            for file in files:
                os.close(file)


@contextlib.contextmanager
def _in_shared_memory(data: bytes) -> Iterator[int]:
    """The descriptor of an anonymous file with these bytes.

    Raises OSError if there is no memory for it, which is not the fault of the media.
    """
    file = os.memfd_create("media")
    try:
        os.truncate(file, len(data))
        if data:
            with mmap.mmap(file, len(data)) as view:
                view[:] = data
        yield file
    finally:
        os.close(file)


def _frames(answer: Mapping[str, Any], file: int) -> Frames:
    """The frames of an answer. The images use the shared memory itself, which lives as long as they do.

    The other arrays are copied. Otherwise keeping a few timestamps of a film would keep its 40 MB of images in memory.
    """
    memory = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    if any(np.dtype(dtype).hasobject for dtype, _, _ in answer["arrays"].values()):
        raise ValueError("addresses of another process's objects")
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.ndarray(shape, dtype, memory, offset) for name, (dtype, shape, offset) in answer["arrays"].items()
    }
    arrays = {name: array if name == "images" else array.copy() for name, array in arrays.items()}
    details = [arrays.pop(name) for name in list(arrays) if name.startswith("details ")]
    return Frames(**arrays, info=MediaInfo(**answer["info"]), details=tuple(details))


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    channel.close()
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
