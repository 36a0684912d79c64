"""Files that hold a secret: created once, readable only by their owner. It does not choose or interpret the secret."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def read_or_create(path: Path, content: bytes) -> bytes:
    """The content of a file. A missing file is created with `content` first. Durable when this returns."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        part = path.with_name(f".{secrets.token_hex(8)}.key.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two processes that start together, both use the key of the first.
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
        part.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # the name must be durable before anything is sealed with the key
        os.close(folder)
        return path.read_bytes()
