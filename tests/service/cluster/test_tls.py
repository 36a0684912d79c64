"""TLS between all parts of a cluster: certificates by `veridask certs`, processes started as it says."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from distributed import Client, Security
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.client import VeridaskClient
from service.server.local import LocalServer
from service.settings.settings import Settings
from tests.support.places import ROOT
from workers.cluster import connect, labels
from workers.errors import CertificateError, ClusterError
from workers.orphan import PARENT
from workers.transport import TlsFiles, security

PARTS = ("scheduler", "worker", "api")


def certs(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["certs", "--out", str(folder), *options])


def connection_args(of: TlsFiles) -> dict[str, Any]:
    found: dict[str, Any] = security(of).get_connection_args("client")
    return found


def files(folder: Path, part: str = "api") -> TlsFiles:
    return TlsFiles(folder / "ca.pem", folder / f"{part}.pem", folder / f"{part}-key.pem")


@dataclass(frozen=True)
class Made:
    """A folder of certificates, and the `dask` commands that were printed for it."""

    folder: Path
    commands: list[list[str]]


def make(folder: Path) -> Made:
    run = certs(folder)
    assert run.exit_code == 0, run.stderr
    return Made(folder, [shlex.split(line) for line in run.stdout.splitlines() if line.startswith("dask ")])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tls") / "another-ca")


@pytest.fixture(scope="module")
def address(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and both workers, started by the printed commands, on loopback and a free port."""
    folder = tmp_path_factory.mktemp("tls-cluster")
    file = folder / "scheduler.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", PARENT: str(os.getpid())}
    watched = ["--preload", "workers.orphan"]
    scheduler_command, *worker_commands = made.commands
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], name: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, *watched], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        started.append(process)

    try:
        start([*scheduler_command, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)], "scheduler")
        found = ""
        while not found:
            assert started[0].poll() is None, (folder / "scheduler.log").read_text()
            time.sleep(0.1)
            if file.exists() and (text := file.read_text()).endswith("}"):
                found = json.loads(text)["address"]
        for number, command in enumerate(worker_commands):
            options = ["--local-directory", str(folder), "--host", "127.0.0.1", "--preload-nanny", "workers.orphan"]
            start([word.replace("tls://127.0.0.1:8786", found) for word in command] + options, f"worker{number}")
        yield found
    finally:
        for process in reversed(started):  # workers first: they wait for a scheduler that is gone
            process.terminate()
            process.wait(30)


# --- the certificates ---


def test_keys_are_their_owners_alone(made: Made) -> None:
    keys = sorted(made.folder.glob("*-key.pem"))
    assert [key.name for key in keys] == ["api-key.pem", "ca-key.pem", "scheduler-key.pem", "worker-key.pem"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert not list(made.folder.glob("*.part"))


def test_what_is_there_is_not_overwritten(made: Made) -> None:
    before = {path: path.read_bytes() for path in made.folder.iterdir()}
    run = certs(made.folder)
    assert run.exit_code == 1
    assert "--renew" in run.stderr
    assert {path: path.read_bytes() for path in made.folder.iterdir()} == before


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> list[str]:
    found = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_a_renewal_keeps_the_ca_and_the_names(tmp_path: Path) -> None:
    assert certs(tmp_path, "--host", "scheduler.internal", "--host", "10.0.0.5", "--days", "30").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = certs(tmp_path, "--renew", "--days", "60")
    assert "tls://scheduler.internal:8786" in run.stdout
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name for name in after if after[name] == before[name]} == {"ca.pem", "ca-key.pem"}
    ca = certificate(tmp_path / "ca.pem")
    for part in PARTS:
        certificate(tmp_path / f"{part}.pem").verify_directly_issued_by(ca)
        assert names(tmp_path / f"{part}.pem") == ["scheduler.internal", "10.0.0.5"]
        left = certificate(tmp_path / f"{part}.pem").not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=59) < left <= timedelta(days=60)
        security(files(tmp_path, part))  # the pair belongs together
    assert {stat.S_IMODE(key.stat().st_mode) for key in tmp_path.glob("*-key.pem")} == {0o600}


def test_a_renewal_wants_the_ca_and_its_own_key(tmp_path: Path, made: Made) -> None:
    missing = certs(tmp_path / "nothing", "--renew")
    assert missing.exit_code == 1
    assert "ca.pem is missing" in missing.stderr
    assert certs(tmp_path).exit_code == 0
    (tmp_path / "ca-key.pem").write_bytes((made.folder / "ca-key.pem").read_bytes())
    wrong = certs(tmp_path, "--renew")
    assert wrong.exit_code == 1
    assert "is not the key of" in wrong.stderr


def test_a_host_must_be_a_name_or_an_address(tmp_path: Path) -> None:
    run = certs(tmp_path / "c", "--host", "not a host")
    assert run.exit_code == 1
    assert not (tmp_path / "c").exists()


# --- the settings ---


def given(folder: Path, scheduler: str) -> dict[str, Any]:
    api = files(folder)
    return {"scheduler": scheduler, "tls_ca": api.ca, "tls_cert": api.cert, "tls_key": api.key}


@pytest.mark.parametrize("scheduler", ["tcp://10.0.0.5:8786", "10.0.0.5:8786", "tcp://scheduler:8786", "tcp://[::2]:1"])
def test_plain_text_beyond_loopback_refuses_to_start(scheduler: str) -> None:
    with pytest.raises(ValidationError, match=r"veridask certs.*VERIDASK_ALLOW_PLAINTEXT=true"):
        Settings(scheduler=scheduler)
    assert Settings(scheduler=scheduler, allow_plaintext=True).cluster_tls is None


@pytest.mark.parametrize("scheduler", ["tcp://127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786", ""])
def test_loopback_needs_no_certificates(scheduler: str) -> None:
    assert Settings(scheduler=scheduler).cluster_tls is None


def test_tls_wants_all_three_files(made: Made) -> None:
    settings = given(made.folder, "tls://10.0.0.5:8786")
    assert Settings(**settings).cluster_tls == files(made.folder)
    for name in ("tls_ca", "tls_cert", "tls_key"):
        with pytest.raises(ValidationError, match=f"set VERIDASK_{name.upper()}"):
            Settings(**{key: value for key, value in settings.items() if key != name})


def test_certificates_and_a_plain_address_contradict_each_other(made: Made) -> None:
    with pytest.raises(ValidationError, match=r"Set VERIDASK_SCHEDULER=tls://127\.0\.0\.1:8786"):
        Settings(**given(made.folder, "tcp://127.0.0.1:8786"))
    with pytest.raises(ValidationError, match="must begin with tls:// or tcp://"):
        Settings(scheduler="ws://127.0.0.1:8786")


def test_files_that_cannot_be_used_refuse_to_start(made: Made, other: Made, tmp_path: Path) -> None:
    settings = given(made.folder, "tls://127.0.0.1:8786")
    with pytest.raises(ValidationError, match=r"VERIDASK_TLS_CERT: .*cannot be read"):
        Settings(**{**settings, "tls_cert": tmp_path / "absent.pem"})
    with pytest.raises(ValidationError, match="cannot be used"):
        Settings(**{**settings, "tls_key": files(other.folder).key})
    open_key = tmp_path / "key.pem"
    open_key.write_bytes(files(made.folder).key.read_bytes())
    open_key.chmod(0o644)
    with pytest.raises(ValidationError, match="chmod 600"):
        Settings(**{**settings, "tls_key": open_key})


def test_the_command_line_says_what_to_do() -> None:
    command = [sys.executable, "-m", "service.cli", "serve", "--scheduler", "tcp://10.0.0.5:8786"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "veridask certs" in run.stderr
    assert "Traceback" not in run.stderr


# --- the connections ---


@pytest.mark.cluster
def test_a_case_runs_with_every_connection_encrypted(address: str, made: Made, tmp_path: Path, video: bytes) -> None:
    """API → scheduler, API → worker (the scatter of an upload), worker → worker (frames to the other label)."""
    settings = given(made.folder, address)
    with LocalServer(tmp_path, settings.pop("scheduler"), **settings) as local:
        running = local.start()
        with VeridaskClient(running.url, running.key) as client:
            case = client.create("recorded")
            for step in case.steps:
                client.upload(case.id, step.step, video, "video/mp4")
            wanted = {f"quality_{step.step}" for step in case.steps}
            while not wanted <= {check.name for check in client.case(case.id).checks}:
                time.sleep(0.1)
            results = {check.name: check.result for check in client.case(case.id).checks}
    assert {results[name] for name in wanted} <= {"clear", "rejected", "consider"}, results


@pytest.mark.cluster
async def test_every_part_listens_with_tls(address: str, made: Made) -> None:
    client = await connect(address, 30, files(made.folder))
    try:
        while set((offered := await labels(client)).values()) != {"CPU", "GPU"}:
            await asyncio.sleep(0.1)
        assert [urlsplit(worker).scheme for worker in offered] == ["tls", "tls"]
        assert await client.submit(sum, [1, 2], resources={"CPU": 1}) == 3
    finally:
        await client.close()


@pytest.mark.cluster
async def test_a_certificate_of_another_ca_is_refused(address: str, other: Made) -> None:
    with pytest.raises(ClusterError, match="no scheduler answers"):
        await connect(address, 3, files(other.folder))


@pytest.mark.cluster
async def test_plain_text_is_refused(address: str) -> None:
    with pytest.raises(ClusterError, match="no scheduler answers"):
        await connect(address.replace("tls://", "tcp://"), 3)


class WithoutCertificate(Security):
    """Trusts the cluster's CA and shows nothing of its own."""

    def get_connection_args(self, role: str) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.tls_ca_file)  # type: ignore[attr-defined]
        context.check_hostname = False
        return {**super().get_connection_args(role), "ssl_context": context}  # type: ignore[no-untyped-call]


@pytest.mark.cluster
async def test_a_client_without_a_certificate_is_refused(address: str, made: Made) -> None:
    bare = WithoutCertificate(  # type: ignore[no-untyped-call]
        require_encryption=True, tls_ca_file=str(made.folder / "ca.pem")
    )
    with pytest.raises(OSError):  # noqa: PT011  closed or timed out, as the race has it; the alert below is the proof
        await Client(address, asynchronous=True, timeout=3, security=bare, set_as_default=False)
    # And why: the scheduler's answer to a handshake is the alert that it wants a certificate.
    where = urlsplit(address)
    context = ssl.create_default_context(cafile=made.folder / "ca.pem")
    with (
        socket.create_connection((where.hostname, where.port or 0), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
    ):
        wrapped.recv(1)


async def test_the_apis_certificate_does_not_pass_for_a_scheduler(made: Made) -> None:
    """Whoever takes over an API process must not become the scheduler that workers run code for."""

    worker = connection_args(files(made.folder, "worker"))["ssl_context"]

    async def call(part: str) -> None:
        own = files(made.folder, part)
        posing = Security(tls_ca_file=str(own.ca), tls_scheduler_cert=str(own.cert), tls_scheduler_key=str(own.key))
        context = posing.get_listen_args("scheduler")["ssl_context"]
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=worker)
            writer.close()

    await call("scheduler")
    with pytest.raises(ssl.SSLError, match=r"(?i)unsuitable certificate purpose"):
        await call("api")


def test_a_pair_that_does_not_belong_together_is_told_at_once(made: Made, other: Made) -> None:
    mixed = TlsFiles(made.folder / "ca.pem", made.folder / "api.pem", other.folder / "api-key.pem")
    with pytest.raises(CertificateError, match="cannot be used"):
        security(mixed)
