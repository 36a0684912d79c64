"""The images and the compose file: checked against the compose specification, a linter and rules of this project.

No container engine is needed. What they start is run by `test_docker_commands`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.docker_files import COMPOSE, DOCKER, DOCKERFILES, SERVICES, instructions
from tests.support.places import ROOT

# --- images ---


def test_there_are_three_images() -> None:
    assert [path.name for path in DOCKERFILES] == ["api.Dockerfile", "worker-cuda.Dockerfile", "worker.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no package for this platform")
    # DL3013 wants versions beside the names: they are in constraints.txt, which PIP_CONSTRAINT holds pip to.
    run = subprocess.run([hadolint, "--ignore", "DL3013", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_image_is_small_pinned_and_not_root(path: Path) -> None:
    lines = instructions(path)
    bases = [value.split()[0] for kind, value in lines if kind == "FROM"]
    assert len(bases) == 2, "a stage that builds and one that runs"
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases), bases
    final = lines[max(i for i, (kind, _) in enumerate(lines) if kind == "FROM") :]
    assert [value for kind, value in final if kind == "USER"] == ["10001:10001"]
    assert not [value for kind, value in lines if kind == "ADD"]
    ran = " ".join(value for kind, value in final if kind == "RUN")
    assert "pip uninstall --yes pip" in ran
    assert not re.search(r"\b(apt-get|pip install|gcc|git)\b", ran)
    for kind in ("CMD", "HEALTHCHECK"):
        (value,) = [value for found, value in final if found == kind]
        assert json.loads(value[value.index("[") :]), "exec form: signals reach the process, and no shell is needed"
    assert not [v for k, v in lines if k in ("ENV", "ARG") and re.search(r"PASSWORD|TOKEN|SECRET|_KEY", v)]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_what_is_copied_exists_and_is_sent_to_the_builder(path: Path) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [value.split() for kind, value in instructions(path) if kind == "COPY" and "--from" not in value]
    sources = {word for words in copied for word in words[:-1]}
    assert {"pyproject.toml", "constraints.txt", "models", "workers", "graphs"} <= sources
    assert sources <= sent
    assert all((ROOT / source).exists() for source in sources)


def test_only_what_the_images_copy_is_sent_to_the_builder() -> None:
    """Nothing of a person and no key may come into a layer: everything is left out but these."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    files = {"LICENSE", "NOTICE", "README.md", "constraints.txt", "pyproject.toml"}
    assert sent == files | {"graphs", "models", "service", "workers"}


def test_extras_that_images_install_are_the_projects() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for path in DOCKERFILES:
        found = re.findall(r'"\.\[([\w,]+)\]"', path.read_text("utf-8"))
        assert found, path.name
        assert {name for names in found for name in names.split(",")} <= set(extras)


# --- compose ---


def compose_schema() -> dict[str, Any]:
    source = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema: dict[str, Any] = json.loads(source.read_text("utf-8"))
    return schema


def test_compose_is_what_the_compose_specification_allows() -> None:
    schema = compose_schema()
    jsonschema.validate(COMPOSE, schema)
    wrong = {**COMPOSE, "services": {**SERVICES, "api": {**SERVICES["api"], "memory": "1G"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_everything_that_compose_names_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"]), name
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        volumes = {str(volume).split(":")[0] for volume in service.get("volumes", []) if ":" in str(volume)}
        assert volumes <= set(COMPOSE["volumes"]), name
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file(), name
    assert (DOCKER / COMPOSE["configs"]["caddyfile"]["file"]).is_file()
    assert {Path(secret["file"]).parent.as_posix() for secret in COMPOSE["secrets"].values()} == {"certificates"}


def test_only_the_proxy_can_be_reached_and_only_from_this_machine() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "proxy": ["127.0.0.1:8080:8080"]
    }
    assert [name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")] == ["edge"]
    on = {network: {n for n, s in SERVICES.items() if network in s["networks"]} for network in COMPOSE["networks"]}
    assert on == {
        "edge": {"proxy"},
        "front": {"proxy", "api"},
        "cluster": {"api", "scheduler", "cpu-worker", "gpu-worker", "cuda-worker"},
        "store": {"api", "database"},
    }


def test_each_part_holds_its_own_key_alone() -> None:
    keys = {
        name: {s for s in service.get("secrets", []) if s.endswith("-key.pem")} for name, service in SERVICES.items()
    }
    worker = {"worker-key.pem"}
    assert {name: held for name, held in keys.items() if held} == {
        "api": {"api-key.pem"},
        "scheduler": {"scheduler-key.pem"},
        "cpu-worker": worker,
        "gpu-worker": worker,
        "cuda-worker": worker,
    }
    assert [name for name, service in SERVICES.items() if "encryption.keys" in service.get("secrets", [])] == ["api"]
    assert "ca-key.pem" not in (DOCKER / "compose.yaml").read_text("utf-8")


def test_every_service_comes_back_says_how_it_is_and_has_bounds() -> None:
    for name, service in SERVICES.items():
        assert service["restart"] == "always", name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert re.search(r":\d+\.\d+", service["image"]), f"{name} has no exact tag"
        image = service["image"].split(":")[0].removeprefix("veridask-")
        built = DOCKER / f"{image}.Dockerfile"
        assert "healthcheck" in service or "HEALTHCHECK" in built.read_text("utf-8"), name
        if name != "proxy":
            assert "memory" in service["deploy"]["resources"]["limits"], name
    assert SERVICES["api"]["deploy"]["replicas"] == 2
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["cuda-worker"]
