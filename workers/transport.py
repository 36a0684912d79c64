"""TLS between the parts of a cluster: what a client needs to join a cluster that requires certificates.

Each part shows a certificate signed by the cluster's own CA and requires one from the other side. This is essential:
the scheduler unpickles what it receives, so anyone who can connect can run code. Dask checks the CA and the purpose of
a certificate but not its host name, so the CA must not sign anything else.

Does not create certificates (`service.crypto.cluster_certificates`) or decide when plain text is allowed (`service`).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from distributed import Security

from workers.errors import CertificateError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of one part: the CA of the cluster, the part's own certificate and its private key."""

    ca: Path
    cert: Path
    key: Path


def security(files: TlsFiles) -> Security:
    """The `security` argument for `distributed.Client`: TLS 1.3 on every connection.

    Raises CertificateError if the files do not match or cannot be read. They are checked here because a connection that
    fails for this reason looks the same as an unreachable scheduler.
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
