"""The decoding process: receives media and answers with its frames in shared memory.

`workers.decoding` runs it as `python -m workers.decoder_child SOCKET MEMORY_BYTES`. Each message is a JSON object with
one file descriptor: the media arrives as an anonymous file, and the arrays of the frames return as another one. The
process ends when the other end of the socket is closed, so it never outlives its worker.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import MediaError
from models.media.decoding import WIDEST, Frames, MediaLimits, sample_frames
from workers.confinement import allow, confine, ended_with_parent, wait

_LARGEST_MESSAGE = 64 * 1024
_ALIGNED = 64


def shared(frames: Frames) -> tuple[dict[str, Any], int]:
    """The frames as a JSON-serialisable description, and the descriptor of an anonymous file with their arrays."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "images": frames.images,
        "timestamps": frames.timestamps,
        "source_timestamps": frames.source_timestamps,
        "source_differences": frames.source_differences,
        "source_blocks": frames.source_blocks,
        **{f"details {index}": detail for index, detail in enumerate(frames.details)},
    }
    file, at, table = os.memfd_create("frames"), 0, {}
    try:
        for name, array in arrays.items():
            table[name] = (str(array.dtype), array.shape, at)
            at = _write(file, array, at)
    except BaseException:
        os.close(file)
        raise
    return {"info": asdict(frames.info), "arrays": table}, file


def _write(file: int, array: npt.NDArray[Any], at: int) -> int:
    """Write one array at an offset. Returns the offset of the next one."""
    content = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written
    return -(-at // _ALIGNED) * _ALIGNED


def _answer(question: Mapping[str, Any], media: int, memory_bytes: int) -> tuple[dict[str, Any], int | None]:
    try:
        with os.fdopen(media, "rb") as file:
            allow(memory_bytes + os.fstat(media).st_size, question["seconds"])
            data = file.read()
        return shared(sample_frames(data, **question["sample"], limits=MediaLimits(**question["limits"])))
    except MediaError as error:
        return {"error": type(error).__name__, "detail": error.detail}, None
    except MemoryError:
        return {"error": "UndecodableMediaError", "detail": "decoding takes too much memory"}, None


def main(descriptor: int, memory_bytes: int) -> None:
    """Answer requests until the other end is closed."""
    confine(memory_bytes, WIDEST.max_bytes)
    with socket.socket(fileno=descriptor) as channel:
        channel.send(b"{}")  # ready
        while True:
            wait(descriptor)
            question, files, _, _ = socket.recv_fds(channel, _LARGEST_MESSAGE, 1)
            if not question:
                return
            with ended_with_parent(descriptor):
                answer, file = _answer(json.loads(question), files[0], memory_bytes)
            message = json.dumps(answer).encode()
            if file is None:
                channel.send(message)
            else:
                socket.send_fds(channel, [message], [file])
                os.close(file)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
