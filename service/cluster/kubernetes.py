"""Worker groups of the dask-kubernetes operator, one per label, scaled through the Kubernetes API server.

It uses plain HTTPS with the service account of the pod, and no client library. In its namespace the account needs `get`
and `patch` on `daskworkergroups/scale` of `kubernetes.dask.org`, and `get` and `delete` on `deployments` of `apps`.

The operator creates one Deployment per worker, with the same name, and compares their number with `replicas` whenever
that changes. If there are too many, it asks the scheduler which workers to close, of *any* group. So the Deployment of
the worker that was chosen and drained here is deleted first; when `replicas` is lowered, the numbers match already.

How many workers there should be, and which one is drained, is decided in `workers.autoscale`.
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
"""The label that the operator sets on the Deployments of a worker group."""
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_TIMEOUT_S = 10.0


class KubernetesGroups:
    """`workers.autoscale.Groups` over an API server. Used as an asynchronous context manager.

    api: URL of the API server, https only. groups: name of the DaskWorkerGroup of each label. account: folder with
    `ca.crt` and `token`; the token is read for each request, because it is replaced about once an hour. Raises
    GroupError if the folder lacks `ca.crt`, or the URL is empty or not https.
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
        """The number of replicas that the group is set to."""
        return await self._replicas(self._groups[label])

    async def grow(self, label: Label, workers: int) -> None:
        """Set the number of replicas. The operator starts the workers."""
        await self._set_replicas(self._groups[label], workers)

    async def end(self, label: Label, name: str) -> None:
        """Delete the Deployment of a worker, then lower the number of replicas by one.

        Raises GroupError, and deletes nothing, if the Deployment is not of this group: workers choose their names.
        """
        group = self._groups[label]
        if not _NAME.fullmatch(name):
            raise GroupError(f"worker name {name!r} cannot be that of a deployment; start workers with --name")
        path = f"{self._deployments}/{name}"
        found = await self._request("GET", path)
        if found.get("metadata", {}).get("labels", {}).get(GROUP_LABEL) != group:
            raise GroupError(f"the deployment {name} is not one of worker group {group}")
        replicas = await self._replicas(group)
        await self._request("DELETE", path)
        await self._set_replicas(group, replicas - 1)

    async def _replicas(self, group: str) -> int:
        scale = await self._request("GET", f"{self._scales}/{group}/scale")
        return int(scale.get("spec", {}).get("replicas", 0))  # absent if it is 0

    async def _set_replicas(self, group: str, replicas: int) -> None:
        await self._request("PATCH", f"{self._scales}/{group}/scale", {"spec": {"replicas": replicas}})

    async def _request(self, method: str, path: str, patch: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            headers = {"Authorization": f"Bearer {self._token.read_text('utf-8').strip()}"}
            answer = await self._http.request(
                method, path, json=patch, headers=headers | (_MERGE_PATCH if patch is not None else {})
            )
            answer.raise_for_status()
            content: dict[str, Any] = answer.json()
        except httpx.HTTPStatusError as error:
            text = error.response.text[:300]
            raise GroupError(f"{method} {path}: {error.response.status_code} {text}") from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise GroupError(f"{method} {path}: {type(error).__name__} {error}") from error
        return content
