"""The report of a case: one HTML file that loads nothing and runs no script.

It embeds pictures as JPEG, drawings as SVG, and one style block whose digest is in the page's Content-Security-Policy.
No outside text is trusted: the template escapes it, and the policy blocks scripts in any case.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from graphs.profile import profiles
from service.evidence.audited import AuditedEvidence
from service.lifecycle.case import Case
from service.pages.report import words as words
from service.pages.report.drawing import BARS, TITLES, WIDTH, flat, gauge, number, timelines
from service.pages.report.pictures import Shown, shown
from service.schemas.cases import CaseView
from service.store.cases import CaseStore
from service.store.rows import StoredEvent
from service.views.cases import case_view

if TYPE_CHECKING:
    import zarr

_AT_ONCE = 2
"""Most reports rendered at once: each holds a case's findings in memory, some tens of megabytes."""
_STYLE = (files("service.pages.report") / "templates" / "report.css").read_text("utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_INSIDE = f"default-src 'none'; img-src data:; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
POLICY = f"{_INSIDE}; frame-ancestors 'none'"
"""The Content-Security-Policy of the answer. The page repeats it in its head, so that it also applies to a saved file.
"""


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(" ", "milliseconds").removesuffix("+00:00") + " UTC"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("service.pages.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = _moment
    environment.filters["number"] = number
    environment.filters["readable"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    environment.globals.update(
        check_title=words.check_title,
        outcome_words=words.outcome_words,
        results=words.RESULTS,
        step_titles=words.STEPS,
        style=Markup(_STYLE),  # noqa: S704  our own file, and the digest is of exactly this text
        policy=_INSIDE,
        gauge_width=WIDTH,
        titles_width=TITLES,
        bars_width=BARS,
    )
    return environment


_TEMPLATE = _environment().get_template("report.html")


class Reports:
    """Renders reports of cases. The audit log records the access before any evidence is opened."""

    def __init__(self, store: CaseStore, evidence: AuditedEvidence) -> None:
        self._store = store
        self._evidence = evidence
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def page(self, case: Case, reader: str) -> str:
        """The report of a case as HTML. reader: id of the API key that reads it.

        Raises ForgottenError if the case is redacted meanwhile, StoreUnavailableError, EvidenceUnavailableError,
        SealBrokenError.
        """
        events = await self._store.events(case.id)
        async with self._room:
            findings = None if case.status == "redacted" else await self._findings(case.id, reader)
            return await asyncio.to_thread(page_of, case_view(case, events), events, findings)

    async def _findings(self, case_id: str, reader: str) -> zarr.Group | None:
        try:
            return await self._evidence.findings(case_id, reader, part="report")
        except FileNotFoundError:  # findings are stored only after a decision
            return None


def page_of(view: CaseView, events: Sequence[StoredEvent], findings: zarr.Group | None) -> str:
    """The report of a case as HTML. events: all events of the case, oldest first. Blocks."""
    decision = view.decision
    title, sentence = words.headline(view.status, decision.outcome if decision else None)
    if decision is not None and decision.review is not None:
        sentence = "A reviewer made this decision."
    profile = profiles().get(view.profile)
    policies = profile.policy.checks if profile else {}
    pictures: list[Shown] = shown(findings) if findings is not None else []
    return _TEMPLATE.render(
        case=view,
        title=title,
        sentence=sentence,
        profile_title=profile.title if profile else "",
        reasons=_reasons(view),
        checks=[(depth, check, gauge(check, policies.get(check.name))) for depth, check in flat(view.checks)],
        pictures=[part for part in pictures if part.pictures],
        timelines=timelines(view.checks),
        history=_history(view, events),
        made_at=datetime.now(UTC),
    )


def _reasons(view: CaseView) -> list[Any]:
    """The reasons of the decision; without a decision, those of the steps to be retaken."""
    if view.decision is not None:
        return list(view.decision.reasons)
    return [reason for step in view.steps for reason in step.reasons]


def _history(view: CaseView, events: Sequence[StoredEvent]) -> list[tuple[datetime, str]]:
    sentences = [(event.at, words.event_sentence(event.type, event.data)) for event in events]
    history = [(view.created_at, "Created")]
    history += [(at, sentence) for at, sentence in sentences if sentence is not None]
    if view.redaction is not None:
        history.append((view.redaction.requested_at, "Redacted"))
        if view.redaction.completed_at is not None:
            history.append((view.redaction.completed_at, "All personal data is removed"))
    return history
