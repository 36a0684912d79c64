"""Probes media in child processes before they are accepted.

A file that crashes, stalls or exhausts the decoder kills a child process, never the API. Children
(`service.evidence.probe_child`) are started in advance. Each answers one question at a time, as a line of JSON, and is
replaced if it dies or does not answer in time. It uses pipes instead of a process pool, because a pool loses all
questions in progress when one of its processes dies.

Which media types a step accepts is decided in `service.cases.commands`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

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
"""A first frame of 16 megapixels takes 360 MB in the largest coding, 10 bits and 4:4:4."""


@dataclass(frozen=True, eq=False)
class _Child:
    """A probe process with its two pipes."""

    process: Process
    questions: asyncio.StreamWriter
    answers: asyncio.StreamReader

    @classmethod
    def of(cls, process: Process) -> Self:
        """A process that was started with pipes. Raises ValueError if it was not."""
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process has no pipes")
        return cls(process, process.stdin, process.stdout)

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a question and wait for its answer."""
        self.questions.write(json.dumps(question).encode() + b"\n")
        await self.questions.drain()
        answer: dict[str, Any] = json.loads(await self.answers.readline())
        return answer


class Prober:
    """A fixed number of probe processes.

    timeout_s: longest time for one media. memory_bytes: memory for one media, in addition to the media and its copies.
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
        self._idle: asyncio.Queue[_Child | None] = asyncio.Queue()
        self._alive: set[_Child] = set()

    async def start(self) -> None:
        """Start all processes and wait until each answers."""
        for child in await asyncio.gather(*(self._spawn() for _ in range(self._count))):
            self._idle.put_nowait(child)

    async def close(self) -> None:
        """End all processes."""
        for child in list(self._alive):
            await self._end(child)

    async def probe(self, path: Path, key: bytes, declared: str | None) -> MediaInfo:
        """Probe the sealed media at `path`; see `models.media.decoding.probe` for the result.

        key: the encryption key of this media alone. The child gets it through its pipe, so that the media is decrypted
        only in its memory. declared: the media type that the client declared, or None. Raises the errors of
        `models.media.decoding.probe`, and SealBrokenError; UndecodableMediaError also if the child died or ran out of
        time, and UnavailableError if no child can be started.
        """
        child = await self._idle.get()
        try:
            if child is None or child.process.returncode is not None:
                child = await self._restart()
                self._telemetry.metrics.probe_starts.inc()
            question = {"path": str(path), "key": key.hex(), "declared": declared, "limits": self._limits}
            try:
                answer = await asyncio.wait_for(child.ask(question), self._timeout_s)
            except (TimeoutError, OSError, ValueError) as error:
                log.warning("probe_failed", error=type(error).__name__, status=child.process.returncode)
                raise UndecodableMediaError("The media cannot be opened. Record it again.") from error
        except BaseException:
            if child is not None:
                await asyncio.shield(self._end(child))
                child = None
            raise
        finally:
            self._idle.put_nowait(child)  # None: the next question starts a new child
        if "error" in answer:
            raise _ERRORS.get(answer["error"], UndecodableMediaError)(answer["detail"])
        return MediaInfo(**answer["info"])

    async def _restart(self) -> _Child:
        try:
            return await self._spawn()
        except (TimeoutError, OSError, ValueError) as error:
            # Not the fault of the media: the machine lacks processes or memory.
            log.error("probe_not_started", error=type(error).__name__)
            raise UnavailableError("The process that checks media cannot be started. Try again later.") from error

    async def _spawn(self) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.evidence.probe_child", str(self._memory_bytes), str(self._timeout_s)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C goes to the parent, which ends the child
        )
        child = _Child.of(process)
        self._alive.add(child)
        try:
            await asyncio.wait_for(child.ask({}), _START_S)
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _end(self, child: _Child) -> None:
        self._alive.discard(child)
        if child.process.returncode is None:
            child.process.kill()
        await child.process.wait()
        child.questions.close()
