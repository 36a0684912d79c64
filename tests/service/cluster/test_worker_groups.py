"""Worker groups on Kubernetes: against an HTTPS server that answers as the API server does, with its own authority."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from distributed import Scheduler

from service.cluster.kubernetes import GROUP_LABEL, KubernetesGroups
from workers.cluster import connect
from workers.errors import GroupError
from workers.placement import CPU, GPU, Label

SCALE = re.compile(r"/apis/kubernetes\.dask\.org/v1/namespaces/ns/daskworkergroups/([a-z-]+)/scale")
DEPLOYMENT = re.compile(r"/apis/apps/v1/namespaces/ns/deployments/([a-z0-9-]+)")
NAMES: dict[Label, str] = {CPU: "veridask-cpu", GPU: "veridask-gpu"}


@dataclass
class Api:
    """What the API server holds: replicas by worker group, and the group that each Deployment is of."""

    url: str
    account: Path
    replicas: dict[str, int] = field(default_factory=lambda: {"veridask-cpu": 2, "veridask-gpu": 0})
    deployments: dict[str, str] = field(default_factory=dict)
    token: str = "first"  # noqa: S105
    asked: list[str] = field(default_factory=list)
    broken: bool = False

    def answer(self, method: str, path: str, kind: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path.rsplit('/', 2)[-2 if path.endswith('/scale') else -1]}")
        if self.broken:
            return 500, "etcd is away"
        if (match := SCALE.fullmatch(path)) and (name := match[1]) in self.replicas and method in ("GET", "PATCH"):
            if method == "PATCH":
                if kind != "application/merge-patch+json":
                    return 415, {"reason": "UnsupportedMediaType"}
                self.replicas[name] = json.loads(body)["spec"]["replicas"]
            spec = {"replicas": self.replicas[name]} if self.replicas[name] else {}
            return 200, {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": name}, "spec": spec}
        if (match := DEPLOYMENT.fullmatch(path)) and (name := match[1]) in self.deployments:
            labels = {GROUP_LABEL: self.deployments[name]} if self.deployments[name] else {}
            if method == "DELETE":
                del self.deployments[name]
                return 200, {"kind": "Status", "status": "Success"}
            return 200, {"kind": "Deployment", "metadata": {"name": name, "labels": labels}}
        return 404, {"kind": "Status", "reason": "NotFound"}


def certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1 that is its own authority."""
    names = ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.crt")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    certificate(tmp_path)
    (tmp_path / "token").write_text("first\n")
    held = Api("", tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers["Authorization"] != f"Bearer {held.token}":
                status, content = 401, {"reason": "Unauthorized"}
            else:
                status, content = held.answer(self.command, self.path, self.headers.get("Content-Type", ""), body)
            said = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_PATCH = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    held.url = f"https://127.0.0.1:{server.server_address[1]}"
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


async def test_reads_and_orders_replicas(api: Api) -> None:
    async with KubernetesGroups(api.url, "ns", NAMES, api.account) as groups:
        assert (await groups.ordered(CPU), await groups.ordered(GPU)) == (2, 0)
        await groups.grow(GPU, 3)
        assert api.replicas == {"veridask-cpu": 2, "veridask-gpu": 3}
        assert await groups.ordered(GPU) == 3


async def test_a_worker_is_ended_before_fewer_are_ordered(api: Api) -> None:
    """Told to have fewer, the operator would choose itself, and not only among the workers of this group."""
    api.deployments = {"veridask-cpu-worker-a1": "veridask-cpu", "veridask-cpu-worker-b2": "veridask-cpu"}
    async with KubernetesGroups(api.url, "ns", NAMES, api.account) as groups:
        await groups.end(CPU, "veridask-cpu-worker-a1")
    assert list(api.deployments) == ["veridask-cpu-worker-b2"]
    assert api.replicas["veridask-cpu"] == 1
    assert api.asked[-2:] == ["DELETE veridask-cpu-worker-a1", "PATCH veridask-cpu"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("database", "not one of worker group"),
        ("veridask-gpu-worker-c3", "not one of worker group"),
        ("nobody", "404"),
        ("tcp://10.0.0.9:41", "cannot be that of a deployment"),
        ("../services/x", "cannot be that of a deployment"),
    ],
)
async def test_no_other_deployment_is_touched(api: Api, name: str, why: str) -> None:
    """A worker says its name itself: what it says must not delete anything else."""
    api.deployments = {"database": "", "veridask-gpu-worker-c3": "veridask-gpu"}
    async with KubernetesGroups(api.url, "ns", NAMES, api.account) as groups:
        with pytest.raises(GroupError, match=why):
            await groups.end(CPU, name)
    assert len(api.deployments) == 2
    assert api.replicas["veridask-cpu"] == 2


async def test_the_token_is_read_again_when_it_was_replaced(api: Api) -> None:
    """Tokens of service accounts end after an hour or so; one read at start would then be refused for ever."""
    async with KubernetesGroups(api.url, "ns", NAMES, api.account) as groups:
        assert await groups.ordered(CPU) == 2
        api.token = "second"  # noqa: S105
        with pytest.raises(GroupError, match="401"):
            await groups.ordered(CPU)
        (api.account / "token").write_text("second\n")
        assert await groups.ordered(CPU) == 2


async def test_what_goes_wrong_is_one_error(api: Api, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificate(other)
    (other / "token").write_text("first")
    async with KubernetesGroups(api.url, "ns", NAMES, other) as stranger:
        with pytest.raises(GroupError, match="ConnectError"):
            await stranger.ordered(CPU)
    assert api.asked == [], "the token never reached a server that the authority did not sign"
    async with KubernetesGroups(api.url, "elsewhere", NAMES, api.account) as groups:
        with pytest.raises(GroupError, match="404"):
            await groups.grow(CPU, 2)
    api.broken = True
    async with KubernetesGroups(api.url, "ns", NAMES, api.account) as groups:
        with pytest.raises(GroupError, match="500"):
            await groups.ordered(CPU)
    for url, folder, why in (
        ("http://127.0.0.1", api.account, "https only"),
        ("", api.account, "no API server is known"),
        (api.url, tmp_path / "none", "no certificate authority"),
    ):
        with pytest.raises(GroupError, match=why):
            KubernetesGroups(url, "ns", NAMES, folder)


@pytest.mark.cluster
async def test_the_command_scales_and_tells_the_load(api: Api) -> None:
    """Work for a label without workers: one is ordered at once, and the figures say why."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        options = {
            "--scheduler": scheduler.address,
            "--kubernetes-namespace": "ns",
            "--kubernetes-api": api.url,
            "--service-account": str(api.account),
            "--metrics-port": str(port),
            "--cpu-group": "veridask-cpu",
            "--min-gpu": "0",
        }
        words = [word for pair in options.items() for word in pair]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "service.cli", "autoscale", *words)
        try:
            async with asyncio.timeout(60), await connect(scheduler.address) as client, httpx.AsyncClient() as http:
                work = [client.submit(abs, i, resources={GPU: 1}) for i in range(3)]
                while api.replicas["veridask-gpu"] == 0:
                    await asyncio.sleep(0.1)
                wanted = ('runnable_tasks{label="GPU"} 3.0', 'ordered_workers{label="GPU"} 1.0')
                text = ""
                while not all(f"veridask_{figure}" in text for figure in wanted):
                    await asyncio.sleep(0.1)
                    text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
                assert 'veridask_runnable_tasks{label="CPU"} 0.0' in text
                assert 'veridask_workers{label="GPU"} 0.0' in text
                assert len(work) == 3
            assert api.replicas == {"veridask-cpu": 2, "veridask-gpu": 1}
        finally:
            process.terminate()
            await process.wait()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "nothing to do"),
        (["--kubernetes-namespace", "ns", "--kubernetes-api", "http://10.0.0.1"], "https only"),
        (["--metrics-port", "9000", "--min-cpu", "5", "--max-cpu", "4"], "not 5 to 4"),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], why: str) -> None:
    command = [sys.executable, "-m", "service.cli", "autoscale", "--scheduler", "tcp://127.0.0.1:1", *options]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert why in said.stderr
