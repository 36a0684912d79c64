"""What README and documentation say can be run does run: commands are run where that is quick and harmless, others are
held to the options that there are.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
import yaml
from standardwebhooks import Webhook
from typer.testing import CliRunner

from service.cli.main import app
from service.client import VeridaskClient
from service.http.app import create_app
from service.schemas.problems import Problem
from service.schemas.review import ReviewBody
from service.server.local import Running
from service.settings.settings import Settings
from tests.support.places import ROOT

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "measured").glob("*.md")),
    *sorted((DOCS / "decisions").glob("*.md")),
]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
README, API = TEXTS[ROOT / "README.md"], TEXTS[DOCS / "api.md"]
MOST_BYTES = 7 * 1024
"""A README is read by somebody who decides within two minutes whether to go on."""


def blocks(language: str, *texts: str) -> list[str]:
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def commands_of(text: str) -> Iterator[str]:
    """The commands of a page's shell blocks, without their comments."""
    for block in blocks("sh", text):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"\s+# .*|^# .*", "", line).strip():
                yield re.sub(r"\s+", " ", command)


COMMANDS = list(dict.fromkeys(command for text in TEXTS.values() for command in commands_of(text)))
INLINE = sorted(
    {
        found
        for text in TEXTS.values()
        for found in re.findall(r"`(python (?:-m |docs/)[^`]+|make [a-z-]+|veridask [a-z]+[^`]*)`", text)
    }
)
CURLS = [command for command in COMMANDS if command.startswith("curl ")]
RUN = [
    command
    for command in COMMANDS
    if re.match(r"veridask (keys|audit|db|certs|reseal)\b", command) and "NUMBER:HASH" not in command
]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= MOST_BYTES


def test_there_are_commands() -> None:
    assert {"make demo", "make test"} <= set(commands_of(README))
    assert len(COMMANDS) > 25
    assert len(RUN) > 8
    assert len(CURLS) == 5


@pytest.mark.parametrize("command", COMMANDS + INLINE)
def test_command_exists(command: str) -> None:
    words = shlex.split(command.replace("$", ""))
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "veridask":
        cli = typer.main.get_command(app)
        sub = cli.commands[words[1]]  # type: ignore[attr-defined]
        if hasattr(sub, "commands") and len(words) > 2:
            sub = sub.commands[words[2]]
        known = {option for parameter in sub.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= known
    elif words[0] == "dask":
        text = subprocess.run(
            [sys.executable, "-m", "dask", words[1], "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert all(word in text for word in words if word.startswith("--"))
    elif words[:2] == ["python", "-m"]:
        spec = importlib.util.find_spec(words[2])
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text("utf-8")
        assert all(f'"{word}"' in source for word in words[3:] if word.startswith("--"))
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "curl":
        url = next(word for word in words if word.startswith("http"))
        path = re.sub(r"/cases/ID", "/cases/{case_id}", url.split(":8080")[1]).replace(
            "/uploads/front", "/uploads/{step}"
        )
        method = words[words.index("-X") + 1].lower() if "-X" in words else "get"
        paths = create_app(Settings(scheduler="tcp://127.0.0.1:1")).openapi()["paths"]
        assert method in paths[path], f"{method} {path}"
    elif words[0] != "echo":
        pytest.fail(f"the documentation runs {words[0]!r}, which no test knows")


@pytest.fixture
def used_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are run in, with a case store that was used and certificates that can be renewed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERIDASK_DATA_DIR", str(tmp_path / "var"))
    result = CliRunner().invoke(app, ["keys", "create", "--name", "first", "--scope", "cases:read"])
    assert result.exit_code == 0, result.output
    return tmp_path


@pytest.mark.parametrize("command", RUN)
def test_command_runs(command: str, used_folder: Path) -> None:
    words = shlex.split(command)[1:]
    if "--renew" in words:
        assert CliRunner().invoke(app, ["certs", "--out", words[words.index("--out") + 1]]).exit_code == 0
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    expected = {
        "keys create": r"^vd_\w+",
        "keys list": "cases:read",
        "audit verify": r"\d+:[0-9a-f]{64}",
        "audit show": "key",
        "db current": r"\d{4}",
        "db upgrade": "",
        "reseal": r"\d+ data keys",
    }
    assert re.search(expected.get(" ".join(words[:2]), expected.get(words[0], "")), result.stdout, re.MULTILINE)
    if words[0] == "certs":
        assert (used_folder / "certificates" / "ca.pem").is_file()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_line_of_the_key_file_is_made_as_shown() -> None:
    (command,) = (command for command in COMMANDS if command.startswith("echo "))
    line = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    name, _, key = line.strip().partition(":")
    assert name == "first"
    assert len(base64.b64decode(key, validate=True)) == 32


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_requests_of_the_documentation_are_answered(
    server: Running, client: VeridaskClient, video: bytes, tmp_path: Path
) -> None:
    (tmp_path / "front.mp4").write_bytes(video)
    environment = {"KEY": server.key, "PATH": "/usr/bin:/bin:/usr/local/bin"}
    answers = []
    for command in CURLS:
        told = command.replace("http://127.0.0.1:8080", server.url).replace("curl -N", "curl -s -N --max-time 3")
        run = subprocess.run(
            ["bash", "-c", told], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode in (0, 28), run.stderr  # 28: the stream of an open case goes on
        answers.append(run.stdout)
        if "ID" not in environment:
            made = json.loads(run.stdout)
            environment |= {"ID": made["id"], "SECRET": made["client_secret"]}
    created, uploaded, read, events, endpoint = answers
    assert json.loads(created)["profile"] == "standard"
    assert {step["step"]: step["attempts"] for step in json.loads(uploaded)["steps"]}["front"] == 1
    assert json.loads(read)["id"] == environment["ID"]
    assert "event: status" in events
    made = json.loads(endpoint)  # the example's host does not exist, or is not on the Internet
    assert made.get("code") == "unsafe_webhook_url" or made["secret"].startswith("whsec_")
    if "secret" in made:
        client.delete_webhook_endpoint(made["id"])
    client.cancel(environment["ID"])


def test_the_example_of_a_receiver_verifies_a_webhook() -> None:
    (example,) = (block for block in blocks("python", API) if "standardwebhooks" in block)
    secret = "whsec_" + base64.b64encode(b"0" * 24).decode()
    now, body = datetime.now(UTC), json.dumps({"type": "case.completed"})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    names = {"body": body, "headers": headers}
    exec(example.replace("whsec_…", secret), names)  # noqa: S102  of our own page
    assert names["payload"] == {"type": "case.completed"}


@pytest.mark.cluster
def test_the_json_of_the_documentation_is_taken(client: VeridaskClient) -> None:
    problem, review, sandbox = map(json.loads, blocks("json", API))
    assert Problem.model_validate(problem).code == "step_not_open"
    assert ReviewBody.model_validate(review).retake == ["front"]
    case = client.create(sandbox["profile"], metadata=sandbox["metadata"])
    assert not case.livemode
    client.cancel(case.id)


def test_the_yaml_of_the_documentation_is_yaml() -> None:
    found = blocks("yaml", *TEXTS.values())
    assert found
    assert all(isinstance(yaml.safe_load(block), list | dict) for block in found)


def test_the_output_of_the_demo_names_its_scenarios() -> None:
    from models.specimens.scenarios import SCENARIOS

    assert all(f"{scenario.name:<25}" in README for scenario in SCENARIOS)
