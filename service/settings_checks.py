"""Looks at what settings name: hosts and files."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path
from urllib.parse import urlsplit


def host_of(address: str) -> str:
    """The host of `host:port`, `[host]:port` or `host`; empty where it cannot be read."""
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""  # what cannot be read is not loopback


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host. A name other than localhost may resolve to anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def readable(setting: str, path: Path, *, secret: bool) -> None:
    """Raise ValueError, which names the setting, when the file cannot be read or, if secret, all can read it."""
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    if secret and mode & stat.S_IROTH:
        raise ValueError(f"{setting}: everyone on this machine can read {path}; chmod 600 it")
