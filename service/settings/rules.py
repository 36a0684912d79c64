"""What is unsafe of the addresses and files that settings name (`service.settings.settings`). Each function raises
ValueError, which says the setting and what to do.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from service.settings.hosts import host_of, is_loopback
from workers.errors import CertificateError
from workers.transport import TlsFiles, security

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")
_BUCKET = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{1,254}(/[A-Za-z0-9._-]+)*/?")


def require_safe_scheduler(
    address: str, ca: Path | None, cert: Path | None, key: Path | None, *, allow_plaintext: bool
) -> None:
    """A scheduler on another machine is reached with TLS, by certificates that fit, unless plain text is allowed."""
    scheme, _, rest = address.rpartition("://")
    files = {"CA": ca, "CERT": cert, "KEY": key}
    missing = [f"VERIDASK_TLS_{name}" for name, path in files.items() if path is None]
    if scheme == "tls":
        if ca is None or cert is None or key is None:
            raise ValueError(
                f"scheduler {address} wants certificates: set {', '.join(missing)}; `veridask certs` makes them"
            )
        for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
            require_readable(f"VERIDASK_TLS_{name}", path, secret=name == "KEY")
        try:
            security(TlsFiles(ca, cert, key))
        except CertificateError as error:
            raise ValueError(error.detail) from error
    elif scheme not in ("", "tcp"):
        raise ValueError(f"scheduler {address} must begin with tls:// or tcp://")
    elif len(missing) < len(files):
        raise ValueError(
            f"certificates are set but scheduler {address} is plain text: name it tls://{rest}, or unset "
            "VERIDASK_TLS_CA, VERIDASK_TLS_CERT and VERIDASK_TLS_KEY"
        )
    elif not allow_plaintext and not is_loopback(host_of(rest)):
        raise ValueError(
            f"scheduler {address} is on another machine and without TLS: whoever reaches it can read every "
            "case and run code. Make certificates with `veridask certs`, start the cluster with them and name it "
            f"tls://{rest}; or set VERIDASK_ALLOW_PLAINTEXT=true where everyone on the network is trusted"
        )


def require_safe_evidence(url: str, endpoint: str) -> None:
    """Object storage has a URL that is understood, and is reached with TLS. Both are empty where it is not used."""
    if url and not _BUCKET.fullmatch(url):
        raise ValueError("VERIDASK_EVIDENCE_URL is s3://bucket/folder, gs://bucket/folder or az://container/folder")
    if not endpoint:
        return
    if not url.startswith("s3://"):
        raise ValueError("VERIDASK_EVIDENCE_ENDPOINT is for an evidence URL that begins with s3://")
    scheme, _, rest = endpoint.partition("://")
    if scheme != "https" and not (scheme == "http" and is_loopback(host_of(rest))):
        raise ValueError(
            "VERIDASK_EVIDENCE_ENDPOINT must begin with https:// (http:// on loopback alone): the evidence is "
            "pictures of people and their documents"
        )


def require_safe_origin(setting: str, origin: str) -> None:
    """An origin whose pages may ask, or that people are sent to, is named, and reached with TLS."""
    scheme, _, host = origin.partition("://")
    if not _ORIGIN.fullmatch(origin) or (scheme == "http" and not is_loopback(host_of(host))):
        raise ValueError(
            f"{setting}: {origin} is no origin such as https://app.example or https://app.example:8443, in small "
            "letters; * would name every page, and one that comes by http may be another's"
        )


def require_readable(setting: str, path: Path, *, secret: bool) -> None:
    """The file can be read; a secret one not by everyone."""
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    if secret and mode & stat.S_IROTH:
        raise ValueError(f"{setting}: everyone on this machine can read {path}; chmod 600 it")
