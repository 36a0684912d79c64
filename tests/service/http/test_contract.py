"""The OpenAPI document is true, and enough: the service is held to it by generated requests, and a client that a public
generator makes from it runs a whole case.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.contract import LIFTED, held_to_its_document
from graphs.records import Step
from service.client import VeridaskClient
from service.http.app import create_app
from service.server.local import LocalServer, Running
from service.settings.settings import Settings
from tests.support.scenario_films import STEPS

REQUESTS = 2000


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(scheduler="tcp://127.0.0.1:1")).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_operations_read_well(document: dict[str, Any]) -> None:
    """Generated clients name their functions after operations: `create_case_v1_cases_post` was one."""
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert "create_case" in names
    tags = {tag["name"] for tag in document["tags"]}
    for route, operation in operations(document):
        assert "_v1_" not in operation["operationId"], route
        assert operation["description"], route
        assert set(operation["tags"]) <= tags, f"{route}: tell in service.openapi.TAGS what the tag is for"
        assert "security" in operation or "/v1" not in route or route.startswith("OPTIONS"), route


def test_every_refusal_says_what_to_do(document: dict[str, Any]) -> None:
    for route, operation in operations(document):
        for status, answer in operation["responses"].items():
            said = answer["description"] not in ("Successful Response", "Done.", "") or status == "204"
            assert said, f"{route} {status}"
            if "application/problem+json" not in answer.get("content", {}):
                continue
            wanted = {"401": {"WWW-Authenticate"}, "429": {"Retry-After"}, "503": {"Retry-After"}}.get(status, set())
            assert set(answer.get("headers", {})) == wanted, f"{route} {status}"


def test_a_creation_leads_to_all_that_can_be_asked_of_what_it_made(document: dict[str, Any]) -> None:
    for made_at in ("/v1/cases", "/v1/webhook_endpoints"):
        links = document["paths"][made_at]["post"]["responses"]["201"]["links"]
        for path, methods in document["paths"].items():
            known = {"{step}"} if "{case_id}" in path else set()
            if path.startswith(f"{made_at}/{{") and all(p in known for p in path.split("/")[4:] if p.startswith("{")):
                assert {operation["operationId"] for operation in methods.values()} <= set(links), path


@pytest.fixture(scope="module")
def asked(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of its own, which answers as often as it is asked; leaves no open case on the cluster."""
    with LocalServer(tmp_path_factory.mktemp("asked"), cluster, **LIFTED) as local:
        running = local.start()
        yield running
        with VeridaskClient(running.url, running.key) as client:
            for case in client.all_cases(status="requires_input"):
                client.cancel(case.id)


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_no_answer_is_outside_the_document(asked: Running, tmp_path: Path) -> None:
    verdict = held_to_its_document(asked.url, asked.key, tmp_path, examples=40)
    assert verdict.failures == [], verdict.output
    assert verdict.whole, verdict.output
    assert verdict.requests >= REQUESTS, verdict.output


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the package that the generator makes; any warning of the generator is a failure."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document), "utf-8")
    # The generator does not know what tus calls its bytes.
    overrides = {"application/offset+octet-stream": "application/octet-stream"}
    (folder / "generator.yaml").write_text(json.dumps({"content_type_overrides": overrides}), "utf-8")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"),
            *("--path", "openapi.json", "--output-path", "veridask_api", "--config", "generator.yaml"),
        ],
        cwd=folder,
        # It calls ruff by its name, and an environment need not be active for the tests to run in it.
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "arning" not in run.stdout + run.stderr
    sys.path.insert(0, str(folder))
    yield "veridask_api"
    sys.path.remove(str(folder))


def test_the_generated_client_has_every_operation(document: dict[str, Any], generated: str) -> None:
    for _, operation in operations(document):
        tag = operation["tags"][0].replace(" ", "_")
        module = importlib.import_module(f"{generated}.api.{tag}.{operation['operationId']}")
        assert callable(module.sync_detailed)


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_generated_client_runs_a_whole_case(server: Running, generated: str, films: dict[Step, bytes]) -> None:
    package, types, models = (importlib.import_module(f"{generated}{part}") for part in ("", ".types", ".models"))
    with package.AuthenticatedClient(server.url, token=server.key, timeout=httpx.Timeout(30)) as keyed:

        def ask(name: str, *args: object, client: object = keyed, **more: object) -> Any:
            return importlib.import_module(f"{generated}.api.cases.{name}").sync(*args, client=client, **more)

        body = models.NewCaseBody(profile="recorded", client_reference_id="generated")
        case = ask("create_case", body=body, idempotency_key="generated client")
        assert ask("create_case", body=body, idempotency_key="generated client").id == case.id
        with package.AuthenticatedClient(server.url, token=case.client_secret) as device:
            for step in STEPS:
                taken = ask("put_upload", case.id, step, client=device, body=types.File(payload=films[step]))
                assert taken.id == case.id
            while not (decided := ask("get_case", case.id, client=device)).decision:
                time.sleep(0.1)
        assert (decided.decision.outcome, decided.decision.reasons) == ("approved", [])
        told = importlib.import_module(f"{generated}.api.cases.get_events").sync_detailed(case.id, client=keyed)
        assert b"event: decision" in told.content
        assert case.id in [listed.id for listed in ask("list_cases", client_reference_id="generated").data]
        other = ask("create_case", body=models.NewCaseBody(profile="recorded"))
        assert ask("cancel_case", other.id).status == "canceled"
        refused = ask("put_upload", other.id, "front", body=types.File(payload=films["front"]))
        assert (refused.status, refused.code) == (409, "case_not_open")
