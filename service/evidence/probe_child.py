"""The probe process: reads questions as lines of JSON on standard input, answers each with a line on standard output.

Run by `service.evidence.prober` as `python -m service.evidence.probe_child BYTES SECONDS`: what it may take of memory
beside the media, and of processor time for one question. Ends when its input ends, so it never outlives the API.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from models.errors import MediaError
from models.media.decoding import WIDEST, MediaLimits, probe
from service.crypto.sealing import CHUNK, opened_by, whole
from service.errors import SealBrokenError
from workers.confinement import allow, confine, ended_with_parent, wait

_HELD = 2
"""So many times a media is held while its seal is opened: a buffer that grows, and grows by more than it needs."""


def answer(question: dict[str, Any], memory_bytes: int, seconds: float) -> dict[str, Any]:
    """The answer to one question; the empty question only asks whether the process is there."""
    if not question:
        return {}
    try:
        with Path(question["path"]).open("rb") as file:
            allow(memory_bytes + _HELD * os.fstat(file.fileno()).st_size, seconds)
            data = whole(opened_by(iter(partial(file.read, CHUNK), b""), bytes.fromhex(question["key"])))
        return {"info": asdict(probe(data, MediaLimits(**question["limits"]), question["declared"]))}
    except (MediaError, SealBrokenError) as error:
        return {"error": type(error).__name__, "detail": error.detail}
    except MemoryError:
        return {"error": "MediaTooLargeError", "detail": "opening the media takes too much memory"}


def answer_one(answers: TextIO, memory_bytes: int, seconds: float) -> bool:
    """Read one question and answer it; whether there was one. Read past Python's buffers: the key of a person's media
    would stay in them, and in a variable of a loop, until the next question.
    """
    wait(0)
    question = b""
    while not question.endswith(b"\n"):  # one at a time is asked
        if not (piece := os.read(0, 4096)):
            return False
        question += piece
    with ended_with_parent(0):
        told = answer(json.loads(question), memory_bytes, seconds)
    answers.write(json.dumps(told) + "\n")
    answers.flush()
    return True


def main(memory_bytes: int, seconds: float) -> None:
    """Answer until the input ends."""
    confine(memory_bytes, _HELD * WIDEST.max_bytes)
    # Decoders print to file descriptor 1 at times: keep the answers on a private copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    while answer_one(answers, memory_bytes, seconds):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
