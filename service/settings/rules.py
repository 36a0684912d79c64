"""Checks that refuse unsafe addresses and files in settings (`service.settings.settings`). Each function raises
ValueError, which names the setting and says what to do.
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
    """A scheduler on another machine needs TLS with valid certificates, unless plain text is allowed."""
    scheme, _, rest = address.rpartition("://")
    files = {"CA": ca, "CERT": cert, "KEY": key}
    missing = [f"VERIDASK_TLS_{name}" for name, path in files.items() if path is None]
    if scheme == "tls":
        if ca is None or cert is None or key is None:
            raise ValueError(
                f"The scheduler {address} needs certificates: set {', '.join(missing)}. `veridask certs` makes them."
            )
        for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
            require_readable(f"VERIDASK_TLS_{name}", path, secret=name == "KEY")
        try:
            security(TlsFiles(ca, cert, key))
        except CertificateError as error:
            raise ValueError(error.detail) from error
    elif scheme not in ("", "tcp"):
        raise ValueError(f"The scheduler {address} must begin with tls:// or tcp://. Correct VERIDASK_SCHEDULER.")
    elif len(missing) < len(files):
        raise ValueError(
            f"Certificates are set, but the scheduler {address} uses plain text. Set VERIDASK_SCHEDULER=tls://{rest}, "
            "or unset VERIDASK_TLS_CA, VERIDASK_TLS_CERT and VERIDASK_TLS_KEY."
        )
    elif not allow_plaintext and not is_loopback(host_of(rest)):
        raise ValueError(
            f"The scheduler {address} is on another machine and does not use TLS: anyone who reaches it can read every "
            "case and run code. Make certificates with `veridask certs`, start the cluster with them and set "
            f"VERIDASK_SCHEDULER=tls://{rest}. If you trust everyone on the network, set VERIDASK_ALLOW_PLAINTEXT=true "
            "instead."
        )


def require_safe_evidence(url: str, endpoint: str) -> None:
    """Object storage needs a URL of a known form, and TLS. Both arguments are empty if it is not used."""
    if url and not _BUCKET.fullmatch(url):
        raise ValueError(
            "VERIDASK_EVIDENCE_URL is not a bucket. Write it as s3://bucket/folder, gs://bucket/folder or "
            "az://container/folder, without credentials."
        )
    if not endpoint:
        return
    if not url.startswith("s3://"):
        raise ValueError(
            "VERIDASK_EVIDENCE_ENDPOINT needs a VERIDASK_EVIDENCE_URL that begins with s3://. Set that, or unset the "
            "endpoint."
        )
    scheme, _, rest = endpoint.partition("://")
    if scheme != "https" and not (scheme == "http" and is_loopback(host_of(rest))):
        raise ValueError(
            "VERIDASK_EVIDENCE_ENDPOINT must begin with https:// (http:// is allowed on loopback only), because the "
            "evidence contains pictures of people and their documents."
        )


def require_safe_origin(setting: str, origin: str) -> None:
    """An origin that may call the API, or that people are sent to, must be exact and use TLS."""
    scheme, _, host = origin.partition("://")
    if not _ORIGIN.fullmatch(origin) or (scheme == "http" and not is_loopback(host_of(host))):
        raise ValueError(
            f"{setting}: {origin!r} is not an allowed origin. Write it in lower case like https://app.example or "
            "https://app.example:8443, without a path. Wildcards are refused because they allow every page, and "
            "http:// (except on loopback) because such a page can be replaced on its way."
        )


def require_readable(setting: str, path: Path, *, secret: bool) -> None:
    """The file must be readable, and a secret file must not be readable by everyone."""
    try:
        with path.open("rb"):
            mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(
            f"{setting}: {path} cannot be read ({error.strerror}). Check the path and its mode."
        ) from error
    if secret and mode & stat.S_IROTH:
        raise ValueError(f"{setting}: everyone on this machine can read {path}. Run chmod 600 {path}.")
