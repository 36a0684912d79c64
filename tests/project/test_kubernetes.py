"""The Kubernetes manifests: checked against the API's schemas, what the operator demands, and rules of this project."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.http.app import create_app
from service.settings.settings import Settings
from tests.support.docker_files import DOCKER, MANIFESTS, OPERATORS, manifest, named, pods

KUBERNETES = "1.33"


@pytest.mark.parametrize("document", [m for m in MANIFESTS if m["kind"] not in OPERATORS], ids=named)
def test_manifest_is_what_kubernetes_takes(document: dict[str, Any]) -> None:
    assert kubernetes_validate.validate(document, KUBERNETES, strict=True) == KUBERNETES


@pytest.mark.parametrize("part", pods())
def test_pod_is_what_kubernetes_takes(part: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": part}, "spec": pods()[part]}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    pod["spec"] = {**pods()[part], "container": []}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_operators_kinds_are_whole() -> None:
    """What its definitions demand: a pod for scheduler and worker, a service, and the port that it looks for."""
    cluster = manifest("DaskCluster", "veridask")["spec"]
    assert set(cluster) == {"scheduler", "worker"}
    assert set(cluster["scheduler"]) == {"spec", "service"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": cluster["scheduler"]["service"],
    }
    kubernetes_validate.validate(service, KUBERNETES, strict=True)
    assert {port["name"] for port in cluster["scheduler"]["service"]["ports"]} == {"tcp-comm", "http-dashboard"}
    group = manifest("DaskWorkerGroup", "veridask-gpu")["spec"]
    assert set(group) == {"cluster", "worker"}
    assert group["cluster"] == "veridask"
    assert set(cluster["worker"]) == set(group["worker"]) == {"replicas", "spec"}


@pytest.mark.parametrize("part", pods())
def test_pod_is_bounded_and_has_no_rights(part: str) -> None:
    pod = pods()[part]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] == (part == "autoscaler"), "it alone speaks to the API server"
    assert not pod["enableServiceLinks"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["requests"]
    assert "memory" in container["resources"]["limits"]
    assert "livenessProbe" in container
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["certificates"]["readOnly"]
    secret, *others = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    owner = {"cpu": "worker", "gpu": "worker", "autoscaler": "api"}.get(part, part)
    assert secret == {"secretName": f"veridask-{owner}-tls", "defaultMode": 0o440}
    encryption = {"secretName": "veridask-encryption", "defaultMode": 0o440}
    assert others == ([encryption] if part == "api" else []), "workers hold no key of evidence or case store"


def test_probes_ask_routes_that_exist() -> None:
    (container,) = pods()["api"]["containers"]
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"/healthz", "/readyz"}
    assert asked <= set(create_app(Settings(scheduler="tcp://127.0.0.1:1")).openapi()["paths"])
    assert manifest("Deployment", "veridask-api")["spec"]["replicas"] == 2
    assert manifest("PersistentVolumeClaim", "veridask-data")["spec"]["accessModes"] == ["ReadWriteMany"]


def reaching(policy: str, port: int) -> list[Any]:
    """Who a NetworkPolicy lets in at a port."""
    rules = manifest("NetworkPolicy", policy)["spec"]["ingress"]
    return [sorted(peer) for rule in rules if {"port": port} in rule["ports"] for peer in rule["from"]]


def test_only_api_autoscaler_and_workers_reach_the_scheduler() -> None:
    assert manifest("NetworkPolicy", "deny-all")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    scheduler = manifest("NetworkPolicy", "scheduler")["spec"]
    allowed = [rule for rule in scheduler["ingress"] if {"port": 8786} in rule["ports"]]
    assert [[peer["podSelector"]["matchLabels"] for peer in rule["from"]] for rule in allowed] == [
        [
            {"app.kubernetes.io/name": "veridask-api"},
            {"app.kubernetes.io/name": "veridask-autoscaler"},
            {"dask.org/cluster-name": "veridask", "dask.org/component": "worker"},
        ]
    ]
    assert reaching("scheduler", 8787) == [["namespaceSelector"]], "the operator, from its own namespace"
    for pod in ("cpu", "gpu"):
        (container,) = pods()[pod]["containers"]
        fixed = {int(a.split("=")[1]) for a in container["args"] if a.startswith(("--worker-port", "--nanny-port"))}
        assert all(reaching("workers", port) == [["podSelector"], ["podSelector"]] for port in fixed)
        assert len(fixed) == 2


def test_the_autoscaler_may_scale_worker_groups_and_end_their_workers_and_nothing_else() -> None:
    assert manifest("Role", "veridask-autoscaler")["rules"] == [
        {
            "apiGroups": ["kubernetes.dask.org"],
            "resources": ["daskworkergroups/scale"],
            "resourceNames": ["veridask-default", "veridask-gpu"],
            "verbs": ["get", "patch"],
        },
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "delete"]},
    ]
    holders = [name for name, pod in pods().items() if pod.get("serviceAccountName") == "veridask-autoscaler"]
    assert holders == ["autoscaler"]
    deployment = manifest("Deployment", "veridask-autoscaler")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"}), "two would order twice"
    (container,) = pods()["autoscaler"]["containers"]
    least = {f"--min-{label}": manifest_replicas for label, manifest_replicas in replicas().items()}
    given = dict(argument.split("=") for argument in container["args"][2:])
    assert {name: int(given[name]) for name in least} == least, "what the manifests start with is not taken back"


def replicas() -> dict[str, int]:
    """Workers by label that the manifests begin with."""
    return {
        "cpu": manifest("DaskCluster", "veridask")["spec"]["worker"]["replicas"],
        "gpu": manifest("DaskWorkerGroup", "veridask-gpu")["spec"]["worker"]["replicas"],
    }


def test_kustomize_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    run = subprocess.run([kubectl, "kustomize", str(DOCKER / "kubernetes")], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(run.stdout))
    left_out = {"Kustomization", "Secret"}  # the secrets are an example
    assert sorted(map(named, built)) == sorted(named(m) for m in MANIFESTS if m["kind"] not in left_out)
    assert {m["metadata"].get("namespace") for m in built if m["kind"] != "Namespace"} == {"veridask"}
