"""What the README says can be run does run, and its table of settings is the code's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
import typer

from service.cli.main import app
from service.http.app import create_app
from service.settings.settings import Settings
from tests.support.places import ROOT

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.split("#")[0].strip()
]
INLINE = sorted(set(re.findall(r"`(python -m [^`]+|make [a-z]+|veridask [a-z]+[^`]*)`", README)))


def test_there_are_commands() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert len(COMMANDS) > 8


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
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "curl":
        url = next(word for word in words if word.startswith("http"))
        path = re.sub(r"/cases/ID", "/cases/{case_id}", url.split(":8080")[1]).replace(
            "/uploads/front", "/uploads/{step}"
        )
        method = words[words.index("-X") + 1].lower() if "-X" in words else "get"
        paths = create_app(Settings(scheduler="tcp://127.0.0.1:1")).openapi()["paths"]
        assert method in paths[path], f"{method} {path}"
    else:
        pytest.fail(f"the README runs {words[0]!r}, which no test knows")


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, setting in Settings.model_fields.items():
        default = "empty" if setting.default in ("", ()) else str(setting.default)
        rows.append(f"| `VERIDASK_{name.upper()}` | {default} | {setting.title}. {setting.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_codes() -> None:
    assert settings_table() in README, f"the README should say:\n{settings_table()}"
