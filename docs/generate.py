"""Writes what stands between `<!-- begin generated: … -->` and its end in the pages, and the index of decisions.

    python docs/generate.py

Run it after a change of settings, errors, checks, reasons, profiles or decisions. A test compares.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from graphs.flow import NODES
from graphs.profile import EFFECTS, get_profile, profiles
from graphs.reasons import REASONS
from models.errors import VeridaskError
from service.errors import ServerStartError
from service.http.problems import STATUS, status_of
from service.settings.settings import Settings
from workers.errors import ClusterError
from workers.settings import (
    _ITEMS_ON_CUDA,
    BATCH_ITEMS,
    BATCH_WAIT_MS,
    DEVICE,
    EMBEDDER_SETTINGS,
    MOST_ITEMS,
    MOST_WAIT_MS,
    TorchSettings,
)

DOCS = Path(__file__).parent
LIVE = "standard"
"""The profile whose policy the pages show."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings() -> str:
    """The settings of the service."""
    rows = []
    for name, setting in Settings.model_fields.items():
        value = setting.default
        default = "empty" if value in ("", (), None) else str(list(value) if isinstance(value, tuple) else value)
        rows.append((f"`VERIDASK_{name.upper()}`", default, f"{setting.title}. {setting.description}"))
    return table(("variable", "default", "meaning"), rows)


def batches() -> str:
    """The settings of GPU workers, but for those of another network for faces."""
    wait_ms = 1000 * TorchSettings().batch_wait_s
    return table(
        ("variable", "default", "meaning"),
        [
            (f"`{DEVICE}`", "auto", "Where the networks run: `auto` (the first GPU that torch sees, else the CPU), "
             "`cpu`, `cuda` or `cuda:N`."),
            (f"`{BATCH_ITEMS}`", f"{_ITEMS_ON_CUDA} on a GPU, 0 on the CPU", "Most frames or faces in one forward pass "
             f"that concurrent tasks share, 2 to {MOST_ITEMS}. 0: each call runs alone."),
            (f"`{BATCH_WAIT_MS}`", f"{wait_ms:g}", "Longest wait in milliseconds for calls that are on their way, "
             f"0 to {MOST_WAIT_MS:g}."),
        ],
    )  # fmt: skip


def embedder() -> str:
    """The settings of another network for faces."""
    return table(("variable", "meaning"), [(f"`{name}`", meaning) for name, meaning in EMBEDDER_SETTINGS.items()])


def _errors() -> Iterator[type[VeridaskError]]:
    todo: list[type[VeridaskError]] = [VeridaskError]
    while todo:
        kind = todo.pop(0)
        yield kind
        todo += kind.__subclasses__()


def errors() -> str:
    """The problems that the errors of the service stand for, by status.

    Left out: those that end a start or a command, so that no request meets them.
    """
    by_code = {
        kind.code: (status_of(kind)[0], _sentence(inspect.getdoc(kind)))  # of two with one code, the narrower
        for kind in _errors()
        if status_of(kind)[0] != 500 and (kind in STATUS or not issubclass(kind, (ClusterError, ServerStartError)))
    }
    rows = sorted((status, code, meaning) for code, (status, meaning) in by_code.items())
    return table(("status", "code", "meaning"), [(str(status), f"`{code}`", meaning) for status, code, meaning in rows])


def checks() -> str:
    """All checks of the flow, with what the live policy asks of them."""
    policy = get_profile(LIVE).policy
    rows = []
    for name, node in NODES.items():
        if not node.placement.is_check:
            continue
        its = policy.checks.get(name)
        thresholds = ", ".join(f"`{key}` {value:g}" for key, value in its.thresholds.items()) if its else ""
        required = ("yes" if its.required else "no") if its else "not used"
        rows.append((f"`{name}`", node.placement.label, _sentence(node.function.__doc__), required, thresholds))
    return table(("check", "label", "what it judges", "required", "thresholds"), rows)


def profile_table() -> str:
    """The profiles that come with the build."""
    rows = []
    for one in profiles().values():
        takes = ", ".join(f"{step} ({' or '.join(kinds)})" for step, kinds in one.accepts.items())
        days = "until asked" if one.retention_days is None else str(one.retention_days)
        other = _effects_that_differ(one.policy.effects)
        shadows = ", ".join(f"`{name}`" for name in one.shadows)
        rows.append((f"`{one.name}`", one.title, takes, one.policy.version, days, shadows, other))
    columns = ("profile", "for", "steps", "policy", "retention, days", "shadows", f"effects unlike `{LIVE}`")
    return table(columns, rows)


def _effects_that_differ(effects: Any) -> str:
    live = get_profile(LIVE).policy.effects
    differing = [f"`{code}`: {effect}" for code, effect in effects.items() if live.get(code) != effect]
    return ", ".join(differing)


def reasons() -> str:
    """All reason codes. By which checks each is given is said by the checks themselves, where they do."""
    effects = get_profile(LIVE).policy.effects
    given: dict[str, list[str]] = {}
    for name, node in NODES.items():
        for code in getattr(node.placement, "reasons", ()):
            given.setdefault(code, []).append(f"`{name}`")
    columns = ["code", "what the person is shown", "effect"] + (["given by"] if given else [])
    rows = []
    for code, sentence in REASONS.items():
        assert effects[code] in EFFECTS  # noqa: S101
        row = [f"`{code}`", sentence, effects[code]]
        rows.append(row + ([", ".join(given.get(code, ()))] if given else []))
    return table(columns, rows)


def decisions() -> str:
    """The index of decisions: number, title, status."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        text = path.read_text("utf-8")
        number, title = re.match(r"# (\d+)\. (.+)", text).groups()  # type: ignore[union-attr]
        status, date = re.search(r"\*\*Status:\*\* ([^·\n]+?)(?: · \*\*Date:\*\* (\S+))?\n", text).groups()  # type: ignore[union-attr]
        rows.append((number, f"[{title}]({path.name})", status.strip(), date or ""))
    return table(("number", "decision", "status", "date"), rows)


def _sentence(doc: str | None) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join(inspect.cleandoc(doc or "").split("\n\n")[0].split())


GENERATED: dict[str, tuple[tuple[str, Callable[[], str]], ...]] = {
    "configuration.md": (("settings", settings), ("batches", batches), ("embedder", embedder)),
    "api.md": (("errors", errors),),
    "checks.md": (("checks", checks), ("profiles", profile_table)),
    "reasons.md": (("reasons", reasons),),
    "decisions/index.md": (("decisions", decisions),),
}
"""What is generated in each page: the name between its markers, and what makes it."""


def renewed(page: str, text: str) -> str:
    """The text of a page with its generated parts made anew. Raises ValueError where a marker is missing."""
    for name, make in GENERATED[page]:
        begin, end = f"<!-- begin generated: {name} -->", f"<!-- end generated: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{page} lacks the markers of {name}")
        text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


def main() -> None:
    """Write all pages that have generated parts."""
    for page in GENERATED:
        path = DOCS / page
        path.write_text(renewed(page, path.read_text("utf-8")), "utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
