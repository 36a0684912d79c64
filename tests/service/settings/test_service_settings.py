"""Settings and errors: what is unsafe refuses to start, and every error has one answer."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import VeridaskError
from service import errors
from service.client import client
from service.http.problems import status_of
from service.lifecycle.json_values import jsonable
from service.server.serve import listen
from service.settings.settings import Settings


def test_every_setting_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert field.annotation is not bool or field.default is False, "switches are off by default"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIDASK_PORT", "9000")
    monkeypatch.setenv("VERIDASK_DATA_DIR", "/srv/veridask")
    settings = Settings()
    assert (settings.port, settings.data_dir) == (9000, Path("/srv/veridask"))
    assert settings.store_url == "sqlite:////srv/veridask/cases.sqlite"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "api.example.org"])  # noqa: S104
def test_beyond_loopback_refuses_to_start_unless_asked_for(host: str) -> None:
    with pytest.raises(ValidationError, match="plain text"):
        Settings(host=host)
    assert Settings(host=host, allow_remote=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_is_safe(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("MAX_UPLOAD_BYTES", "0"),
        ("PROBE_PROCESSES", "0"),
        ("PROBE_TIMEOUT_S", "-1"),
        ("UPLOAD_TIMEOUT_S", "inf"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_setting_out_of_bounds_refuses_to_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VERIDASK_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://evidence", ""),
        ("gs://evidence/veridask/", ""),
        ("az://evidence/a/b", ""),
        ("s3://e1", "https://s3.example.org"),
    ],
)
def test_object_storage_by_url(url: str, endpoint: str) -> None:
    assert Settings(evidence_url=url, evidence_endpoint=endpoint).evidence_url == url
    assert Settings(evidence_url="s3://evidence", evidence_endpoint="http://127.0.0.1:9000").evidence_endpoint


@pytest.mark.parametrize(
    ("url", "endpoint", "message"),
    [
        ("https://bucket.example.org", "", "s3://bucket/folder"),
        ("s3://", "", "s3://bucket/folder"),
        ("s3://key:secret@bucket", "", "s3://bucket/folder"),  # credentials in a URL end in logs
        ("s3://bucket", "http://10.0.0.5:9000", "https"),
        ("gs://bucket", "https://s3.example.org", "s3://"),
        ("", "https://s3.example.org", "s3://"),
    ],
)
def test_an_unsafe_place_for_the_evidence_refuses_to_start(url: str, endpoint: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(evidence_url=url, evidence_endpoint=endpoint)


@pytest.mark.parametrize(
    "origin", ["https://app.example", "https://app.example:8443", "http://127.0.0.1:5173", "http://[::1]"]
)
def test_pages_that_may_ask_are_named(origin: str) -> None:
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example",
        "http://app.example",
        "https://app.example/",
        "app.example",
        "https://A.example",
        "",
    ],
)
def test_pages_without_a_name_or_without_tls_refuse_to_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="CORS_ORIGINS"):
        Settings(cors_origins=("https://app.example", origin))


def test_a_service_key_that_anyone_can_read_or_of_another_length_refuses_to_start(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with pytest.raises(ValidationError, match="cannot be read"):
        Settings(service_key_file=key)
    key.write_bytes(bytes(31))
    key.chmod(0o600)
    with pytest.raises(ValidationError, match="32 bytes"):
        Settings(service_key_file=key)
    key.write_bytes(bytes(32))
    assert Settings(service_key_file=key).service_key_file == key
    key.chmod(0o644)
    with pytest.raises(ValidationError, match="chmod 600"):
        Settings(service_key_file=key)


def all_errors(root: type[VeridaskError] = VeridaskError) -> list[type[VeridaskError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("error", [e for e in all_errors() if e.__module__ in (errors.__name__, "models.errors")])
def test_every_error_travels_and_has_one_answer(error: type[VeridaskError]) -> None:
    again = pickle.loads(pickle.dumps(error("what went wrong")))  # noqa: S301  our own bytes
    assert (type(again), again.detail, again.code) == (error, "what went wrong", error.code)
    status, title = status_of(error)
    assert 400 <= status <= 599
    assert title


def test_problems_of_other_services_travel_too() -> None:
    text = '{"type": "urn:x", "title": "t", "status": 409, "code": "case_not_open", "detail": "closed"}'
    error = pickle.loads(pickle.dumps(client.ProblemError(text, 409)))  # noqa: S301
    assert (error.status, error.code, error.detail) == (409, "case_not_open", "closed")
    assert client.ProblemError("<html>", 502).code == "problem"


def test_what_may_be_tried_again_is_a_503_and_what_the_person_sent_is_not() -> None:
    for error in all_errors(errors.UnavailableError):
        assert status_of(error)[0] == 503
    assert {status_of(error)[0] for error in all_errors(VeridaskError) if "Media" in error.__name__} == {413, 415, 422}


def test_values_that_json_cannot_hold() -> None:
    import json

    import numpy as np

    values = {"nan": float("nan"), "array": np.array([1.5, np.inf]), "set": {1}, "bytes": b"\x01", 2: np.uint8(3)}
    assert json.loads(json.dumps(jsonable(values), allow_nan=False)) == {
        "nan": None,
        "array": [1.5, None],
        "set": [1],
        "bytes": "01",
        "2": 3,
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_acknowledgements(host: str) -> None:
    """Every answer once took 44 ms: Nagle's algorithm held its second packet back until the first was acknowledged."""
    with listen(host, 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
