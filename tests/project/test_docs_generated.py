"""What is generated in the documentation is what the code says, and its pages hold together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from docs.generate import DOCS, GENERATED, renewed
from graphs.reasons import REASONS
from service.http.app import create_app
from service.settings.settings import Settings
from tests.support.places import ROOT
from workers.settings import BATCH_ITEMS, BATCH_WAIT_MS, DEVICE, EMBEDDER_SETTINGS

PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *PAGES,
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
VARIABLE = re.compile(r"VERIDASK_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)")


@pytest.fixture(scope="module")
def api() -> FastAPI:
    return create_app(Settings(scheduler="tcp://127.0.0.1:1"))


def anchors(path: Path) -> set[str]:
    """The anchors of a page, as GitHub and mkdocs make them from its headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(GENERATED))
def test_generated_parts_are_the_codes(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert renewed(page, text) == text, "run `python docs/generate.py`"


def test_a_page_without_its_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"reasons.md lacks the markers of reasons"):
        renewed("reasons.md", "# Reason codes\n")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{path.name} links to {target}"


def test_every_page_is_reached() -> None:
    """From the front page of the documentation, by links alone."""
    reached: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [
            (page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(page.read_text("utf-8"))
        ]
        todo += [target for target in targets if target.suffix == ".md" and target.is_relative_to(DOCS)]
    assert set(PAGES) <= reached


def test_every_variable_that_the_code_reads_is_documented() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    files = [file for layer in ("service", "graphs", "workers") for file in (ROOT / layer).rglob("*.py")]
    read = {name for file in files for name in VARIABLE.findall(file.read_text("utf-8"))}
    settings = {f"VERIDASK_{name.upper()}" for name in Settings.model_fields}
    others = {DEVICE, BATCH_ITEMS, BATCH_WAIT_MS, *EMBEDDER_SETTINGS}
    assert len(settings) > 40
    missing = {name for name in read | settings | others if f"`{name}`" not in page}
    assert not missing


def test_every_variable_of_the_pages_is_read_by_something() -> None:
    known = {f"VERIDASK_{name.upper()}" for name in Settings.model_fields}
    known |= {DEVICE, BATCH_ITEMS, BATCH_WAIT_MS, *EMBEDDER_SETTINGS}
    known |= {"VERIDASK_API_KEY", "VERIDASK_URL", "VERIDASK_PARENT_PID"}
    for path in TEXTS:
        if path.name != "CHANGELOG.md":
            assert set(VARIABLE.findall(path.read_text("utf-8"))) <= known, path


def test_every_call_is_in_the_page_of_the_api(api: FastAPI) -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]+)` \| (.*) \|$", page, re.MULTILINE)
    paths = api.openapi()["paths"]
    assert {path for _, path, _ in rows} == set(paths)
    for path, methods in paths.items():
        told = " ".join(f"`{method}` {text}" for method, its, text in rows if its == path)
        wanted = {method.upper() for method in methods} - {"OPTIONS"}
        assert all(f"`{method}`" in told for method in wanted), f"{path}: {wanted}"
    assert all(method.lower() in paths[path] for method, path, _ in rows)


def test_every_reason_has_a_row() -> None:
    page = (DOCS / "reasons.md").read_text("utf-8")
    assert [code for code in REASONS if f"| `{code}` | {REASONS[code]} |" not in page] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_decisions_have_one_form(path: Path) -> None:
    text = path.read_text("utf-8")
    number = int(path.name[:4])
    assert re.match(rf"# {number}\. \S.*\n\n\*\*Status:\*\* \S", text)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Rejected"]
    assert all(part.strip() for part in re.split(r"^## .*$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("path", [*DECISIONS, DOCS / "architecture.md", *PAGES], ids=lambda path: path.stem)
def test_files_that_pages_name_are_there(path: Path) -> None:
    named = re.findall(
        r"`((?:service|graphs|workers|models|tests|benchmarks|docker|docs)/[\w./-]+)`", path.read_text("utf-8")
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing
