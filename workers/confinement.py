"""Resource limits for child processes that open media from strangers: memory, processor time, open files.

Used by the children that probe (`service.evidence.probe_child`) and decode (`workers.decoder_child`).

The limits keep one file from exhausting the machine. They are no security sandbox: a file that takes over the decoder
runs with the rights of the same user.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import resource
import select
from collections.abc import Iterator
from pathlib import Path

FORGET_S = 60.0
_OPEN_FILES = 64


def confine(memory_bytes: int, media_bytes: int) -> None:
    """Limit this process for the rest of its life.

    memory_bytes: private memory besides the media itself, including 70 MB for the interpreter; the same amount again is
    allowed in shared memory. media_bytes: private memory for the largest media. A decoder that asks for more gets a
    memory error. If the machine itself runs out of memory, this process is killed before others.
    """
    # Not RLIMIT_AS, which also counts libraries that are only mapped.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes + media_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))  # a memfd counts as a file
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the person's pictures
    with contextlib.suppress(OSError):  # not on Linux, or forbidden: the limits above still apply
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def allow(memory_bytes: int, seconds: float) -> None:
    """Set the limits for one media: private memory, within the limit of `confine`, and seconds of processor time.

    SIGXCPU ends the process when its time is used up. Normally its parent ends it earlier, by the clock; this limit is
    for the case that the parent is gone.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(memory_bytes, most), most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, most))


@contextlib.contextmanager
def ended_with_parent(descriptor: int) -> Iterator[None]:
    """End this process at once when the other end of a pipe or socket is closed, even during decoding.

    The kernel then sends SIGIO, which has no handler and ends the process. Nothing may be sent in either direction
    meanwhile, because that raises the same signal.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def wait(descriptor: int) -> None:
    """Wait until there is something to read. After FORGET_S, return freed memory to the kernel.

    Otherwise the last person's media would stay in that memory until the next media arrives. Doing it at once would
    cost 20 to 35 ms of fresh memory pages for each media.
    """
    if not select.select([descriptor], [], [], FORGET_S)[0]:
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
        select.select([descriptor], [], [])


def child_environment() -> dict[str, str]:
    """The environment of a confined child: that of this process, with two changes.

    numpy uses one thread, because the stacks of others would count as memory. Freed memory is kept for the next frame:
    a nanny gives its worker MALLOC_TRIM_THRESHOLD_=65536, with which decoding took a fifth longer.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    return {**os.environ, **threads, **kept}
