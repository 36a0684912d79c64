"""The probe process: reads questions as lines of JSON from standard input and writes one line for each answer.

`service.evidence.prober` runs it as `python -m service.evidence.probe_child BYTES SECONDS`. BYTES limits its memory in
addition to the media, SECONDS the processor time for one question. It ends when its input ends, so it never outlives
the API. Restricting its rights is the work of `workers.confinement`, decoding that of `models.media.decoding`.
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
from service.crypto.sealing import CHUNK, join, open_entry_with
from service.errors import SealBrokenError
from workers.confinement import allow, confine, ended_with_parent, wait

_COPIES = 2
"""Memory for a media while it is decrypted, in sizes of the media: its buffer grows, and by more than it needs."""


def answer(question: dict[str, Any], memory_bytes: int, seconds: float) -> dict[str, Any]:
    """The answer to one question. The empty question only checks that the process is alive."""
    if not question:
        return {}
    try:
        with Path(question["path"]).open("rb") as file:
            allow(memory_bytes + _COPIES * os.fstat(file.fileno()).st_size, seconds)
            data = join(open_entry_with(iter(partial(file.read, CHUNK), b""), bytes.fromhex(question["key"])))
        return {"info": asdict(probe(data, MediaLimits(**question["limits"]), question["declared"]))}
    except (MediaError, SealBrokenError) as error:
        return {"error": type(error).__name__, "detail": error.detail}
    except MemoryError:
        return {"error": "MediaTooLargeError", "detail": "opening the media takes too much memory"}


def answer_one(answers: TextIO, memory_bytes: int, seconds: float) -> bool:
    """Read and answer one question. Returns False at the end of the input.

    Reads without Python's buffers: the key of a media would stay in them, and in the variable of a loop, until the next
    question.
    """
    wait(0)
    question = b""
    while not question.endswith(b"\n"):  # the prober sends one question at a time
        if not (piece := os.read(0, 4096)):
            return False
        question += piece
    with ended_with_parent(0):
        reply = answer(json.loads(question), memory_bytes, seconds)
    answers.write(json.dumps(reply) + "\n")
    answers.flush()
    return True


def main(memory_bytes: int, seconds: float) -> None:
    """Answer questions until the input ends."""
    confine(memory_bytes, _COPIES * WIDEST.max_bytes)
    # Some decoders print to file descriptor 1: write the answers to a private copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    while answer_one(answers, memory_bytes, seconds):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
