"""What a process may take that opens media from strangers: memory, processor time, files. For the child processes that
probe (`service.probe_child`) and decode (`workers.decoder_child`).

Keeps one file from taking the machine along. It is no sandbox against a file that takes the decoder over: the child
runs as the same user.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from pathlib import Path

_OPEN_FILES = 64


def confine(memory_bytes: int) -> None:
    """Bound this process for the rest of its life.

    memory_bytes: private memory, the interpreter's 70 MB included, and as much again in shared memory. A decoder that
    asks for more is told that there is none. Where the machine itself runs out, this process is killed before others.
    """
    # Not RLIMIT_AS: it would count libraries, which are mapped and not taken.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))  # a memfd counts as a file
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the person's pictures
    with contextlib.suppress(OSError):  # not on Linux, or forbidden: the bounds above hold all the same
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def allow_seconds(seconds: float) -> None:
    """End this process by SIGXCPU when it uses more than so much processor time from now on.

    Its parent ends it by the clock before. This is for a parent that died meanwhile: nobody would end its child.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def quiet_environment() -> dict[str, str]:
    """This process's environment for a confined child: one thread in numpy, whose stacks would count as memory."""
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}
