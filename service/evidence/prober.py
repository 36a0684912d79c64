"""Looks at media before it is taken, in child processes: a file that crashes, stalls or bloats the decoder ends a
child, never the API.

A child (`service.evidence.probe_child`) is started ahead, answers one question at a time as a line of JSON, and is
replaced when it dies or does not answer in time. Plain pipes instead of a process pool: a pool loses every question in
flight when one of its processes dies.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from models.errors import EmptyMediaError, MediaTooLargeError, MediaTypeError, UndecodableMediaError, VeridaskError
from models.media.decoding import MediaInfo, MediaLimits
from service.errors import SealBrokenError, UnavailableError
from service.observability.telemetry import Telemetry
from workers.confinement import child_environment

log = structlog.get_logger()

_ERRORS: dict[str, type[VeridaskError]] = {
    error.__name__: error
    for error in (EmptyMediaError, UndecodableMediaError, MediaTypeError, MediaTooLargeError, SealBrokenError)
}
_START_S = 30.0
PROBE_MEMORY_BYTES = 512 * 1024**2
"""What the first frame of 16 megapixels takes in its most lavish coding, 10 bits and 4:4:4, is 360 MB."""


class Prober:
    """A fixed number of probe processes. timeout_s, memory_bytes: what one may take for one media, of memory beside it
    and its copies.
    """

    def __init__(
        self,
        processes: int,
        timeout_s: float,
        limits: MediaLimits,
        memory_bytes: int = PROBE_MEMORY_BYTES,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self._count = processes
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._limits = asdict(limits)
        self._idle: asyncio.Queue[Process | None] = asyncio.Queue()
        self._alive: set[Process] = set()

    async def start(self) -> None:
        """Start and warm all processes."""
        for child in await asyncio.gather(*(self._spawn() for _ in range(self._count))):
            self._idle.put_nowait(child)

    async def close(self) -> None:
        """End all processes."""
        for child in list(self._alive):
            await self._end(child)

    async def probe(self, path: Path, key: bytes, declared: str | None) -> MediaInfo:
        """What the sealed media at `path` is, as `models.media.decoding.probe` says it.

        key: opens this media alone; the child gets it by its pipe, so that the media is plain in its memory only.
        declared: the media type that came with it, None when none was told. Raises what `models.media.decoding.probe`
        raises, and SealBrokenError; UndecodableMediaError also when the child died or ran out of time, UnavailableError
        when none can be started.
        """
        child = await self._idle.get()
        try:
            if child is None or child.returncode is not None:
                child = await self._started()
                self._telemetry.metrics.probe_starts.inc()
            question = {"path": str(path), "key": key.hex(), "declared": declared, "limits": self._limits}
            try:
                answer = await asyncio.wait_for(_ask(child, question), self._timeout_s)
            except (TimeoutError, OSError, ValueError) as error:
                log.warning("probe_failed", error=type(error).__name__, status=child.returncode)
                raise UndecodableMediaError("The media cannot be opened. Record it again.") from error
        except BaseException:
            if child is not None:
                await asyncio.shield(self._end(child))
                child = None
            raise
        finally:
            self._idle.put_nowait(child)  # None: the next question starts a new one
        if "error" in answer:
            raise _ERRORS.get(answer["error"], UndecodableMediaError)(answer["detail"])
        return MediaInfo(**answer["info"])

    async def _started(self) -> Process:
        try:
            return await self._spawn()
        except (TimeoutError, OSError, ValueError) as error:
            # Says nothing about the media: the machine has no process or no memory to give.
            log.error("probe_not_started", error=type(error).__name__)
            raise UnavailableError("The process that checks media cannot be started. Try again later.") from error

    async def _spawn(self) -> Process:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.evidence.probe_child", str(self._memory_bytes), str(self._timeout_s)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
        self._alive.add(child)
        try:
            await asyncio.wait_for(_ask(child, {}), _START_S)
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: Process) -> None:
        self._alive.discard(child)
        if child.returncode is None:
            child.kill()
        await child.wait()
        if child.stdin is not None:
            child.stdin.close()


async def _ask(child: Process, question: dict[str, Any]) -> dict[str, Any]:
    assert child.stdin is not None  # noqa: S101  asked for above
    assert child.stdout is not None  # noqa: S101
    child.stdin.write(json.dumps(question).encode() + b"\n")
    await child.stdin.drain()
    answer: dict[str, Any] = json.loads(await child.stdout.readline())
    return answer
