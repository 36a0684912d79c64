"""Who may do what: every route with every kind of credential, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.client import VeridaskClient
from service.crypto.client_secrets import Secrets, service_key
from service.http.app import create_app
from service.schemas.cases import CreatedView
from service.server.local import Running
from service.settings.settings import Settings
from service.store.api_keys import SCOPES, ApiKeys
from service.store.database import Database
from tests.support.data_folders import server_in, settings_in

pytestmark = pytest.mark.cluster

CREDENTIALS = (
    "none", "garbage", "unknown key", "revoked key", "expired key", "own secret", "another case's secret",
    "expired secret", "tampered secret", *SCOPES,
)  # fmt: skip
ALL_KEYS = frozenset(SCOPES)
WRITE, READ = frozenset({"cases:write", "admin"}), frozenset({"cases:read", "admin"})
ADMIN = frozenset({"admin"})
OPEN = frozenset(CREDENTIALS)
ALLOWED: Mapping[tuple[str, str], frozenset[str]] = {
    ("POST", "/v1/cases"): WRITE,
    ("GET", "/v1/cases"): READ,
    ("GET", "/v1/cases/{case_id}"): READ | {"own secret"},
    ("PUT", "/v1/cases/{case_id}/uploads/{step}"): WRITE | {"own secret"},
    ("OPTIONS", "/v1/cases/{case_id}/uploads/{step}/tus"): OPEN,
    ("POST", "/v1/cases/{case_id}/uploads/{step}/tus"): WRITE | {"own secret"},
    ("OPTIONS", "/v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"): OPEN,
    ("HEAD", "/v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"): WRITE | {"own secret"},
    ("PATCH", "/v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"): WRITE | {"own secret"},
    ("DELETE", "/v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"): WRITE | {"own secret"},
    ("POST", "/v1/cases/{case_id}/uploads/{step}/tus/{upload_id}"): WRITE | {"own secret"},
    ("GET", "/v1/cases/{case_id}/events"): READ | {"own secret"},
    ("POST", "/v1/cases/{case_id}/cancel"): WRITE,
    ("POST", "/v1/cases/{case_id}/client_secret"): WRITE,
    ("GET", "/v1/cases/{case_id}/evidence"): frozenset({"evidence:read", "admin"}),
    ("GET", "/v1/cases/{case_id}/evidence/{upload_id}"): frozenset({"evidence:read", "admin"}),
    ("GET", "/v1/cases/{case_id}/report"): frozenset({"evidence:read", "admin"}),
    ("POST", "/v1/cases/{case_id}/redact"): ADMIN,
    ("POST", "/v1/cases/{case_id}/review"): frozenset({"review:write", "admin"}),
    ("GET", "/v1/profiles"): ALL_KEYS,
    ("GET", "/v1/shadow"): READ,
    ("POST", "/v1/webhook_endpoints"): ADMIN,
    ("GET", "/v1/webhook_endpoints"): ADMIN,
    ("GET", "/v1/webhook_endpoints/{endpoint_id}"): ADMIN,
    ("DELETE", "/v1/webhook_endpoints/{endpoint_id}"): ADMIN,
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret"): ADMIN,
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/enable"): ADMIN,
    ("GET", "/v1/webhook_endpoints/{endpoint_id}/deliveries"): ADMIN,
    ("GET", "/v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}"): ADMIN,
    ("POST", "/v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/replay"): ADMIN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): frozenset({"metrics:read", "admin"}),
}
"""Who gets in, by route."""


@pytest.fixture(scope="module")
def keys(server: Running, server_folder: Path) -> Iterator[ApiKeys]:
    database = Database(settings_in(server_folder).store_url)
    yield ApiKeys(database)
    database.engine.dispose()


@pytest.fixture(scope="module")
def cases(server: Running) -> Iterator[tuple[CreatedView, CreatedView]]:
    with VeridaskClient(server.url, server.key) as client:
        mine, other = client.create("recorded"), client.create("recorded")
        yield mine, other
        for case in (mine, other):
            client.cancel(case.id)


@pytest.fixture(scope="module")
def credentials(keys: ApiKeys, cases: tuple[CreatedView, CreatedView], server_folder: Path) -> dict[str, str]:
    mine, other = cases
    now, secrets = datetime.now(UTC), Secrets(service_key(server_folder))
    made: dict[str, str] = {scope: keys.create(scope, [scope], now)[1] for scope in SCOPES}
    revoked, text = keys.create("revoked", ["admin"], now)
    keys.revoke(revoked.id, now)
    secret = mine.client_secret
    return {
        "none": "",
        "garbage": "x",
        "unknown key": f"vd_{'0' * 26}_{'A' * 43}",
        "revoked key": text,
        "expired key": keys.create("expired", ["admin"], now, now - timedelta(seconds=1))[1],
        "own secret": secret,
        "another case's secret": other.client_secret,
        "expired secret": secrets.of(mine.id, now - timedelta(seconds=31)),
        "tampered secret": secret.replace(secret.split("_")[1], f"{int(secret.split('_')[1], 16) + 9999:x}"),
        **made,
    }


def routes() -> set[tuple[str, str]]:
    """What the application really has."""
    paths = create_app(Settings(scheduler="tcp://127.0.0.1:1")).openapi()["paths"]
    return {(method.upper(), path) for path, operations in paths.items() for method in operations}


def status(method: str, url: str, credential: str) -> int:
    """Of a request whose body changes nothing: what counts is who gets as far as having it read."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    body: bytes | None = None
    if method == "PUT":
        body, headers["Content-Type"] = b"", "video/mp4"
    elif url.endswith("/v1/cases") and method == "POST":
        body, headers["Content-Type"] = b'{"profile": "no such profile"}', "application/json"
    with httpx.stream(method, url, headers=headers, content=body, timeout=10) as answer:
        return answer.status_code


def test_no_route_is_forgotten() -> None:
    assert routes() == set(ALLOWED)


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_every_route_with_every_credential(
    method: str, path: str, server: Running, cases: tuple[CreatedView, CreatedView], credentials: dict[str, str]
) -> None:
    got: dict[str, int] = {}
    for name in CREDENTIALS:
        # Who may cancel does so to a case that is not there: the others want this one.
        gone = path.endswith("/cancel") and name in ALLOWED[method, path]
        case_id = "case_" + "0" * 26 if gone else cases[0].id
        names = {
            "case_id": case_id,
            "step": "front",
            "endpoint_id": "endpoint_none",
            "delivery_id": "msg_none",
            "upload_id": "upload_none",
        }
        got[name] = status(method, server.url + path.format(**names), credentials[name])
    inside = {name for name, answered in got.items() if answered not in (401, 403)}
    assert inside == ALLOWED[method, path], got
    for name in set(CREDENTIALS) - inside:
        known = name in ALL_KEYS or name == "own secret" or ("secret" in name and "{case_id}" not in path)
        assert got[name] == (403 if known else 401), name


def test_nobody_learns_which_cases_there_are(
    server: Running, cases: tuple[CreatedView, CreatedView], credentials: dict[str, str]
) -> None:
    """To who may not see a case, one that is there and one that is not look the same."""
    for name in CREDENTIALS:
        if name in (*SCOPES, "own secret"):
            continue
        headers = {"Authorization": f"Bearer {credentials[name]}"} if credentials[name] else {}
        answers = []
        for case_id in (cases[1].id if name != "another case's secret" else cases[0].id, "case_" + "0" * 26):
            answer = httpx.get(f"{server.url}/v1/cases/{case_id}", headers=headers)
            answers.append((answer.status_code, answer.content, answer.headers.get("www-authenticate")))
        assert answers[0] == answers[1], name
        assert answers[0][0] == 401


def test_a_device_sends_its_media_with_its_secret_alone(server: Running, video: bytes) -> None:
    with VeridaskClient(server.url, server.key) as client:
        case = client.create("recorded")
        with VeridaskClient(server.url, case.client_secret) as device:
            assert device.upload(case.id, "face", video, "video/mp4").id == case.id
        fresh = client.client_secret(case.id)
        assert timedelta(minutes=59) < fresh.client_secret_expires_at - datetime.now(UTC) <= timedelta(hours=1)
        with VeridaskClient(server.url, fresh.client_secret) as device:
            assert device.case(case.id).id == case.id
        client.cancel(case.id)


def test_a_key_that_is_revoked_while_it_is_in_use(server: Running, keys: ApiKeys) -> None:
    key, text = keys.create("short-lived", ["cases:read"], datetime.now(UTC))
    assert status("GET", f"{server.url}/v1/cases", text) == 200
    keys.revoke(key.id, datetime.now(UTC))
    deadline = time.monotonic() + 30
    while (answered := status("GET", f"{server.url}/v1/cases", text)) == 200:
        assert time.monotonic() < deadline, "still good"
        time.sleep(0.2)
    assert answered == 401


def test_who_asks_too_often_is_told_when_to_come_again(cluster: str, tmp_path: Path) -> None:
    with server_in(tmp_path, cluster, key_rate=1, case_rate=0.5) as local:
        running = local.start()
        with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {running.key}"}) as http:
            answers = [http.get("/v1/profiles") for _ in range(30)]
            statuses = [answer.status_code for answer in answers]
            assert statuses[:5] == [200] * 5
            assert {*statuses} == {200, 429}
            refused = answers[-1]
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert int(refused.headers["Retry-After"]) >= 1
            assert http.get("/healthz").status_code == 200
            with httpx.Client(base_url=running.url) as nobody:
                assert nobody.get("/v1/profiles").status_code == 401


def test_answers_are_kept_by_nobody_and_framed_by_nobody(http: httpx.Client) -> None:
    for path in ("/v1/profiles", "/v1/cases/none", "/healthz"):
        headers = http.get(path, headers={"Origin": "https://elsewhere.example"}).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_pages_of_origins_that_were_named_may_ask(cluster: str, tmp_path: Path) -> None:
    own, other = "https://app.example", "https://elsewhere.example"
    with server_in(tmp_path, cluster, cors_origins=f'["{own}"]') as local:
        running = local.start()
        with httpx.Client(base_url=running.url) as http:
            asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}
            path = "/v1/cases/case_x/uploads/front"
            allowed = http.options(path, headers={"Origin": own, **asked})
            assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, own)
            assert "PUT" in allowed.headers["access-control-allow-methods"]
            assert "x-request-id" in allowed.headers
            refused = http.options(path, headers={"Origin": other, **asked})
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
            answer = http.get("/v1/profiles", headers={"Origin": own})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, own)
            assert "upload-offset" in answer.headers["access-control-expose-headers"].lower()
            assert "access-control-allow-credentials" not in answer.headers
            assert "access-control-allow-origin" not in http.get("/healthz", headers={"Origin": other}).headers


def test_no_credential_is_logged(server: Running, server_folder: Path, credentials: dict[str, str]) -> None:
    httpx.get(f"{server.url}/v1/profiles", headers={"Authorization": f"Bearer {credentials['admin']}"})
    log = (server_folder / "server.log").read_text("utf-8")
    assert '"caller": "key_' in log
    for text in (*credentials.values(), server.key):
        assert len(text) < 2 or text[-43:] not in log
