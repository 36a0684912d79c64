"""Certificates of a cluster: a private CA, and one certificate each for the scheduler, the workers and the API.

    ca.pem  ca-key.pem      signs the others; keep its key off the machines of the cluster
    scheduler.pem  …-key    accepts and opens connections
    worker.pem     …-key    the same; one for all workers
    api.pem        …-key    only opens connections: it cannot pose as a scheduler or a worker

Keys use the curve P-256 and are readable only by their owner. `make` overwrites nothing. `renew` replaces everything
except the CA; older certificates stay valid until they expire, so the parts can be restarted one after another.

Using the certificates is the work of `workers.transport`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.errors import CertificatesError

CA_DAYS = 3650
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CLOCKS = timedelta(hours=1)
"""Certificates are valid from this long before their creation, because clocks of machines differ."""
_SERVES, _CALLS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
PARTS = {"scheduler": (_SERVES, _CALLS), "worker": (_SERVES, _CALLS), "api": (_CALLS,)}
"""The purposes of each part's certificate. OpenSSL enforces them on both ends of a connection."""


def make(folder: Path, hosts: Sequence[str], days: int) -> None:
    """Create the CA and all certificates in `folder`.

    hosts: host names and IP addresses for the certificates; loopback if empty. days: validity, at least 1. Raises
    CertificatesError for an invalid host, and if any of the files exists.
    """
    names = [_name(host) for host in hosts or LOOPBACK]
    folder.mkdir(parents=True, exist_ok=True)
    targets = [path for part in ("ca", *PARTS) for path in _paths(folder, part)]
    if there := [path.name for path in targets if path.exists()]:
        raise CertificatesError(
            f"{', '.join(there)} in {folder} would be overwritten; name another folder, or renew with --renew"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "veridask cluster CA")])
    now = datetime.now(UTC)
    ca = (
        _builder(subject, subject, key.public_key(), now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, "ca", ca, key)
    _sign_all(folder, ca, key, dict.fromkeys(PARTS, names), days)


def renew(folder: Path, hosts: Sequence[str], days: int) -> None:
    """Replace all certificates and keys except those of the CA.

    hosts: those of the current certificates if empty. Raises CertificatesError for an invalid host, and if the CA is
    missing or expired, or its key belongs to another CA.
    """
    ca, key = _authority(folder)
    given = [_name(host) for host in hosts]
    _sign_all(folder, ca, key, {part: given or _names_of(folder, part) for part in PARTS}, days)


def next_steps(folder: Path) -> str:
    """Instructions for the certificates in `folder`: commands and settings to copy, for their first host."""
    at = folder.resolve()
    scheduler = x509.load_pem_x509_certificate((at / "scheduler.pem").read_bytes())
    host = str(_names_of(at, "scheduler")[0].value)
    address = f"tls://[{host}]:8786" if ":" in host else f"tls://{host}:8786"

    def options(part: str) -> str:
        cert, key = _paths(at, part)
        return f"--tls-ca-file {at / 'ca.pem'} --tls-cert {cert} --tls-key {key}"

    cert, key = _paths(at, "api")
    quiet = "--no-dashboard --dashboard-address 127.0.0.1:0"  # Dask's dashboards use plain HTTP and show keys and logs
    worker = f"dask worker {address} {options('worker')} {quiet} --nthreads 2 --preload workers.preload"
    return "\n".join(
        (
            f"Certificates are in {at}, good until {scheduler.not_valid_after_utc:%Y-%m-%d}.",
            "Each machine needs ca.pem and the two files of its own part, and takes new ones when it is restarted.",
            "Keep ca-key.pem off these machines: whoever has it can join the cluster.",
            "",
            "# scheduler",
            f"dask scheduler --protocol tls {options('scheduler')} {quiet}",
            "# workers, each with one label",
            f'{worker} --resources "CPU=2"',
            f'{worker} --resources "GPU=2"',
            "# API",
            f"export VERIDASK_SCHEDULER={address}",
            f"export VERIDASK_TLS_CA={at / 'ca.pem'}",
            f"export VERIDASK_TLS_CERT={cert}",
            f"export VERIDASK_TLS_KEY={key}",
            "veridask api",
            "",
        )
    )


def _paths(folder: Path, part: str) -> tuple[Path, Path]:
    return folder / f"{part}.pem", folder / f"{part}-key.pem"


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        labels = host.removeprefix("*.").split(".")
        if not all(label.replace("-", "").isalnum() and label.isascii() for label in labels):
            raise CertificatesError(f"{host!r} is neither an IP address nor a host name") from None
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _sign_all(
    folder: Path,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    names: dict[str, list[x509.GeneralName]],
    days: int,
) -> None:
    now = datetime.now(UTC)
    ends = min(now + timedelta(days=days), ca.not_valid_after_utc)  # no certificate is valid for longer than its CA
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    for part, purposes in PARTS.items():
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"veridask {part}")])
        certificate = (
            _builder(subject, ca.subject, key.public_key(), now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names[part]), critical=False)
            .add_extension(authority, critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _write(folder, part, certificate, key)


def _write(folder: Path, part: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a certificate and its key. Each file appears complete and with its mode.

    The key is first: a new key beside an old certificate is reported at the next start, and renewing again repairs it.
    """
    cert_path, key_path = _paths(folder, part)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for path, data, mode in ((key_path, pem, 0o600), (cert_path, certificate.public_bytes(Encoding.PEM), 0o644)):
        part_path = path.with_suffix(".part")
        part_path.unlink(missing_ok=True)  # of an interrupted run
        with open(os.open(part_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:  # noqa: PTH123  Path.open takes no mode
            file.write(data)
        part_path.replace(path)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    cert_path, key_path = _paths(folder, "ca")
    try:
        ca = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = load_pem_private_key(key_path.read_bytes(), password=None)
        ca.verify_directly_issued_by(ca)
    except FileNotFoundError as error:
        raise CertificatesError(f"{error.filename} is missing; make a CA without --renew") from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificatesError(f"{cert_path} and {key_path} are not a CA that was made here") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise CertificatesError(f"{key_path} is not the key of {cert_path}")
    if ca.not_valid_after_utc <= datetime.now(UTC):
        raise CertificatesError(f"the CA {cert_path} has ended; make a new one in another folder")
    return ca, key


def _names_of(folder: Path, part: str) -> list[x509.GeneralName]:
    """The names in the current certificate of a part; loopback if there is none."""
    cert_path, _ = _paths(folder, part)
    if not cert_path.exists():
        return [_name(host) for host in LOOPBACK]
    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CertificatesError(f"{cert_path} is not a certificate that was made here; say --host") from error
