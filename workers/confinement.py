"""What a process may take that opens media from strangers: memory, processor time, files; and what it keeps of them.
For the child processes that probe (`service.evidence.probe_child`) and decode (`workers.decoder_child`).

Keeps one file from taking the machine along. It is no sandbox against a file that takes the decoder over: the child
runs as the same user.
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
    """Bound this process for the rest of its life.

    memory_bytes: private memory beside the media itself, the interpreter's 70 MB included, and as much again in shared
    memory; media_bytes: private memory for the largest media. A decoder that asks for more is told that there is none.
    Where the machine itself runs out, this process is killed before others.
    """
    # Not RLIMIT_AS: it would count libraries, which are mapped and not taken.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes + media_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))  # a memfd counts as a file
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the person's pictures
    with contextlib.suppress(OSError):  # not on Linux, or forbidden: the bounds above hold all the same
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def allow(memory_bytes: int, seconds: float) -> None:
    """Let this process take so much private memory from now on, as far as `confine` lets it, and end it by SIGXCPU when
    it uses more than so much processor time.

    Its parent ends it by the clock before. This is for a parent that was stopped meanwhile.
    """
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(memory_bytes, most), most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, most))


@contextlib.contextmanager
def ended_with_parent(descriptor: int) -> Iterator[None]:
    """End this process when the other end of a pipe or socket is closed, whatever its decoder does: at once, by SIGIO,
    which nobody handles. Nothing may be sent either way meanwhile: the same signal tells that.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def wait(descriptor: int) -> None:
    """Wait until there is something to read. After FORGET_S give freed memory back to the kernel: the last person's
    media would stay in it until the next one's comes. Not at once: fresh pages for each media cost 20 to 35 ms.
    """
    if not select.select([descriptor], [], [], FORGET_S)[0]:
        with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)
        select.select([descriptor], [], [])


def child_environment() -> dict[str, str]:
    """This process's environment for a confined child: one thread in numpy, whose stacks would count as memory, and
    freed memory kept for the next frame. A nanny gives its worker MALLOC_TRIM_THRESHOLD_=65536; with that, decoding
    took a fifth longer.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    kept = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    return {**os.environ, **threads, **kept}
