"""Files that hold a secret: made once, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def read_or_create(path: Path, content: bytes) -> bytes:
    """What the file holds; where there is none it is made with this content first. Durable when it returns."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        part = path.with_name(f".{secrets.token_hex(8)}.key.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two processes that start together the first one's key is everybody's.
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # what is sealed by it must not outlive its name
        os.close(folder)
        return path.read_bytes()
