"""What settings of the service are held to (`service.settings`)."""

from __future__ import annotations

import ipaddress
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


def host_of(address: str) -> str:
    """The host of `host:port`, `[host]:port` or `host`."""
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""  # what cannot be read is not loopback


def require_safe_origin(origin: str) -> None:
    """Raises ValueError for what is no origin, for all of them, and for one that is reached without TLS."""
    scheme, _, host = origin.partition("://")
    if not _ORIGIN.fullmatch(origin) or (scheme == "http" and not is_loopback(host_of(host))):
        raise ValueError(
            f"VERIDASK_CORS_ORIGINS: {origin} is no origin such as https://app.example or https://app.example:8443, in "
            "small letters; * would let every page ask whose reader has a credential, and a page that comes by http "
            "may be another's"
        )


def require_readable(setting: str, path: Path, *, secret: bool) -> None:
    """Raises ValueError when the file that a setting names cannot be read, or a secret one can by everyone."""
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    if secret and mode & stat.S_IROTH:
        raise ValueError(f"{setting}: everyone on this machine can read {path}; chmod 600 it")


def is_loopback(host: str) -> bool:
    """Whether a host, by its name or address, is this machine for certain."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to anything
