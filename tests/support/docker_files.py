"""Reads the files in `docker/`: images, compose file, Kubernetes manifests."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

from tests.support.places import ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((DOCKER / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
OPERATORS = {"DaskCluster", "DaskWorkerGroup", "Kustomization"}
"""Kinds that are not built into Kubernetes."""


def manifest(kind: str, name: str) -> dict[str, Any]:
    return next(m for m in MANIFESTS if m["kind"] == kind and m["metadata"]["name"] == name)


def named(document: dict[str, Any]) -> str:
    return f"{document['kind']}-{document.get('metadata', {}).get('name', '')}"


def pods() -> dict[str, dict[str, Any]]:
    """Every pod in the manifests, by part."""
    cluster = manifest("DaskCluster", "veridask")["spec"]
    return {
        "scheduler": cluster["scheduler"]["spec"],
        "cpu": cluster["worker"]["spec"],
        "gpu": manifest("DaskWorkerGroup", "veridask-gpu")["spec"]["worker"]["spec"],
        "api": manifest("Deployment", "veridask-api")["spec"]["template"]["spec"],
        "autoscaler": manifest("Deployment", "veridask-autoscaler")["spec"]["template"]["spec"],
    }


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and value of each line, without comments."""
    parser = DockerfileParser(fileobj=BytesIO(path.read_bytes()))
    return [(i["instruction"], i["value"]) for i in parser.structure if i["instruction"] != "COMMENT"]


def environment_of(path: Path) -> dict[str, str]:
    """The environment variables of the final stage."""
    return dict(DockerfileParser(fileobj=BytesIO(path.read_bytes())).envs)


def final_command(path: Path) -> list[str]:
    command: list[str] = json.loads(next(value for kind, value in reversed(instructions(path)) if kind == "CMD"))
    return command
