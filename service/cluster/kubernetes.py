"""Worker groups of the dask-kubernetes operator, one for each label, grown and shrunk through the API server.

Plain HTTPS with the pod's service account; no client library. The account needs, in its namespace, `get` and `patch`
on `daskworkergroups/scale` of `kubernetes.dask.org`, and `get` and `delete` on `deployments` of `apps`.

The operator makes one Deployment a worker, gives both the same name, and compares their number with `replicas` when
that is changed. Told to have fewer, it asks the scheduler which workers to close, of *any* group. So the Deployment of
the worker that was chosen and emptied here is deleted first: when `replicas` is then lowered the numbers agree already.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from workers.errors import GroupError
from workers.placement import Label

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP_LABEL = "dask.org/workergroup-name"
"""Label that the operator gives to the Deployments of a worker group."""
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_TIMEOUT_S = 10.0


class KubernetesGroups:
    """`workers.autoscale.Groups` over an API server. Used as an asynchronous context manager.

    api: its URL, https only; groups: the DaskWorkerGroup of each label; account: folder with `token`, which is read for
    each request because it is replaced about hourly, and `ca.crt`. Raises GroupError when that folder lacks them.
    """

    def __init__(self, api: str, namespace: str, groups: Mapping[Label, str], account: Path = SERVICE_ACCOUNT) -> None:
        if not api:
            raise GroupError("no API server is known: run in a pod of the cluster, or give --kubernetes-api")
        if not api.startswith("https://"):
            raise GroupError(f"the token of the service account is sent over https only, not to {api}")
        try:
            trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except OSError as error:
            raise GroupError(f"no certificate authority of the cluster in {account}") from error
        self._groups = dict(groups)
        self._token = account / "token"
        self._scales = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/daskworkergroups"
        self._deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._http = httpx.AsyncClient(base_url=api, verify=trusted, timeout=_TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ordered(self, label: Label) -> int:
        """The replicas that the group is to have."""
        return await self._replicas(self._groups[label])

    async def grow(self, label: Label, workers: int) -> None:
        """Order replicas; the operator starts them."""
        await self._order(self._groups[label], workers)

    async def end(self, label: Label, name: str) -> None:
        """Delete the worker's Deployment, then order one replica less.

        A Deployment of another worker group, or of none, is not touched: a worker says its name itself.
        """
        group = self._groups[label]
        if not _NAME.fullmatch(name):
            raise GroupError(f"worker name {name!r} cannot be that of a deployment; start workers with --name")
        path = f"{self._deployments}/{name}"
        found = await self._ask("GET", path)
        if found.get("metadata", {}).get("labels", {}).get(GROUP_LABEL) != group:
            raise GroupError(f"the deployment {name} is not one of worker group {group}")
        replicas = await self._replicas(group)
        await self._ask("DELETE", path)
        await self._order(group, replicas - 1)

    async def _replicas(self, group: str) -> int:
        scale = await self._ask("GET", f"{self._scales}/{group}/scale")
        return int(scale.get("spec", {}).get("replicas", 0))  # left out when it is 0

    async def _order(self, group: str, replicas: int) -> None:
        await self._ask("PATCH", f"{self._scales}/{group}/scale", {"spec": {"replicas": replicas}})

    async def _ask(self, method: str, path: str, patch: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            headers = {"Authorization": f"Bearer {self._token.read_text('utf-8').strip()}"}
            answer = await self._http.request(
                method, path, json=patch, headers=headers | (_MERGE_PATCH if patch is not None else {})
            )
            answer.raise_for_status()
            content: dict[str, Any] = answer.json()
        except httpx.HTTPStatusError as error:
            said = error.response.text[:300]
            raise GroupError(f"{method} {path}: {error.response.status_code} {said}") from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise GroupError(f"{method} {path}: {type(error).__name__} {error}") from error
        return content
