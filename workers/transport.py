"""TLS between the parts of a cluster: what a client needs to join one that asks for certificates.

Every part shows a certificate of the cluster's own CA and demands one: the scheduler unpickles what it is sent, so
whoever may connect may run code. Dask checks the CA and the purpose of a certificate, not its host name: the CA must
sign for nothing else. Does not make certificates (`service.crypto.cluster_certificates`) nor say when plain text is
allowed (`service`).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from distributed import Security

from workers.errors import CertificateError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one part: the cluster's CA, the part's own certificate, its private key."""

    ca: Path
    cert: Path
    key: Path


def security(files: TlsFiles) -> Security:
    """What `distributed.Client` joins a cluster with: TLS 1.3, on every connection it makes.

    Raises CertificateError when the files do not belong together or cannot be read: told at start, because a
    connection that fails for this reason only looks like a scheduler that is away.
    """
    made = Security(
        require_encryption=True,
        tls_ca_file=str(files.ca),
        tls_client_cert=str(files.cert),
        tls_client_key=str(files.key),
        tls_min_version=ssl.TLSVersion.TLSv1_3,
    )
    try:
        made.get_connection_args("client")
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(f"{files.ca}, {files.cert} and {files.key} cannot be used: {error}") from error
    return made
