"""The probe process: reads questions as lines of JSON on standard input, answers each with a line on standard output.

Run by `service.probing` as `python -m service.probe_child BYTES SECONDS`: what it may take of memory, and of processor
time for one question. Ends when its input ends, so it never outlives the API.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import MediaError
from models.media import MediaLimits, probe
from service.errors import SealBrokenError
from service.sealing import CHUNK, opened_by, whole
from workers.confinement import allow_seconds, confine


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question; the empty question only asks whether the process is there."""
    if not question:
        return {}
    try:
        with Path(question["path"]).open("rb") as file:
            data = whole(opened_by(iter(partial(file.read, CHUNK), b""), bytes.fromhex(question["key"])))
        return {"info": asdict(probe(data, MediaLimits(**question["limits"]), question["declared"]))}
    except (MediaError, SealBrokenError) as error:
        return {"error": type(error).__name__, "detail": error.detail}
    except MemoryError:
        return {"error": "MediaTooLargeError", "detail": "opening the media takes too much memory"}


def main(memory_bytes: int, seconds: float) -> None:
    """Answer until the input ends."""
    confine(memory_bytes)
    # Decoders print to file descriptor 1 at times: keep the answers on a private copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        allow_seconds(seconds)
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
