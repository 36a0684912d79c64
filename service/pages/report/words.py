"""The words of a report for statuses, outcomes, checks and events: for readers who do not know the system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphs.reasons import REASONS
from graphs.records import Outcome, ResultKind, Step
from service.vocabulary import Status

STEPS: Mapping[Step, str] = {
    "front": "Front of the document",
    "back": "Back of the document",
    "face": "Face scan",
}
RESULTS: Mapping[ResultKind, str] = {
    "clear": "Clear",
    "caution": "Doubtful",
    "rejected": "Rejected",
    "unidentified": "Inconclusive",
    "error": "Error",
    "not_run": "Not run",
}
_CHECKS: Mapping[str, str] = {
    "quality": "Picture quality",
    "text": "Printed text",
    "tampering": "Altered text",
    "portrait": "Portrait on the document",
    "hologram": "Hologram",
    "recapture": "Original, not a screen or copy",
    "mrz": "Machine-readable zone",
    "validity": "Validity of the document",
    "barcode": "Barcode",
    "liveness_active": "Requested movements",
    "liveness_geometric": "Real head, not a flat picture",
    "liveness_passive": "Real skin, not a screen",
    "continuity": "Same face in one recording",
    "consistency": "Front, back and barcode agree",
    "match": "Face matches the document",
    "case": "Whole case",
    "review": "Review by a person",
}
_OUTCOMES: Mapping[Outcome, tuple[str, str]] = {
    "approved": ("Approved", "Every required check is clear."),
    "declined": ("Declined", "A check rejected this person or document."),
    "resubmission_requested": ("Retake requested", "Some recordings are not good enough and must be uploaded again."),
    "review": ("Needs review", "The checks alone cannot decide this case. A reviewer must decide."),
}
_STATUSES: Mapping[Status, tuple[str, str]] = {
    "requires_input": ("Waiting for recordings", "There is no decision yet: recordings are missing."),
    "processing": ("Processing", "All recordings were uploaded; the checks are running."),
    "completed": ("Completed", "The case has ended."),
    "in_review": _OUTCOMES["review"],
    "canceled": ("Canceled", "The case was canceled before a final decision."),
    "expired": ("Expired", "The recordings were not uploaded in time."),
    "redacted": ("Redacted", "All personal data of this case was erased. Only the fact that it existed remains."),
}


def headline(status: Status, outcome: Outcome | None) -> tuple[str, str]:
    """The state of a case as a title and a sentence."""
    if outcome is not None and status in ("completed", "requires_input", "in_review"):
        return _OUTCOMES[outcome]
    return _STATUSES[status]


def outcome_words(outcome: Outcome) -> str:
    """The title of an outcome."""
    return _OUTCOMES[outcome][0]


def check_title(name: str) -> str:
    """The title of a check; an unknown check keeps its name."""
    for step, words in STEPS.items():
        base = name.removesuffix(f"_{step}")
        if base != name:
            return f"{_CHECKS[base]} · {words}" if base in _CHECKS else name
    return _CHECKS.get(name, name)


def event_sentence(kind: str, data: Mapping[str, Any]) -> str | None:
    """A sentence for an event of a case. None for checks, which the report shows elsewhere."""
    match kind:
        case "status":
            return f"Status: {_STATUSES[data['status']][0].lower()}" if data["status"] in _STATUSES else None
        case "step":
            words = STEPS.get(data["step"], str(data["step"]))
            if data["state"] == "received":
                return f"{words}: uploaded, attempt {data['attempt']}"
            why = " ".join(reason["message"] for reason in data["reasons"])
            return f"{words}: retake requested. {why}".strip()
        case "decision":
            by = "Reviewer's decision" if data.get("review") else "Decision"
            why = " ".join(REASONS.get(code, code) for code in data["reasons"])
            return f"{by}: {outcome_words(data['outcome']).lower()}. {why}".strip()
    return None
