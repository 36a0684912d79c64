"""What statuses, outcomes, checks and events are called in a report: plain words for who did not build this."""

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
    "unidentified": "Could not be judged",
    "error": "Failed",
    "not_run": "Not run",
}
_CHECKS: Mapping[str, str] = {
    "quality": "Picture quality",
    "text": "Printed text",
    "tampering": "Ink of the printed lines",
    "portrait": "Portrait on the document",
    "hologram": "Hologram",
    "recapture": "Original, not a screen or a copy",
    "mrz": "Machine-readable zone",
    "validity": "Validity on the day",
    "barcode": "Barcode",
    "liveness_active": "Movements asked for",
    "liveness_geometric": "Head, not a flat picture",
    "liveness_passive": "Skin, not a screen",
    "continuity": "One face in one recording",
    "consistency": "Front, zone and barcode agree",
    "match": "Face is the one on the document",
    "case": "The case as a whole",
    "review": "A person's review",
}
_OUTCOMES: Mapping[Outcome, tuple[str, str]] = {
    "approved": ("Approved", "Every check that must be clear is clear."),
    "declined": ("Declined", "Something was found that speaks against this person or document."),
    "resubmission_requested": ("To be taken again", "Some recordings are not good enough and are asked for again."),
    "review": ("A person must decide", "The checks alone do not settle this case."),
}
_STATUSES: Mapping[Status, tuple[str, str]] = {
    "requires_input": ("Waiting for recordings", "There is no decision yet: recordings are still wanted."),
    "processing": ("Being judged", "All recordings are there; the checks are at work."),
    "completed": ("Completed", "The case has ended."),
    "in_review": _OUTCOMES["review"],
    "canceled": ("Canceled", "The case was ended before there was a final decision."),
    "expired": ("Expired", "The recordings did not come in time."),
    "redacted": ("Redacted", "All that spoke of the person was erased. What is left is that there was a case."),
}


def headline(status: Status, outcome: Outcome | None) -> tuple[str, str]:
    """What has become of a case, in a few words and in a sentence."""
    if outcome is not None and status in ("completed", "requires_input", "in_review"):
        return _OUTCOMES[outcome]
    return _STATUSES[status]


def outcome_words(outcome: Outcome) -> str:
    """An outcome in a few words."""
    return _OUTCOMES[outcome][0]


def check_title(name: str) -> str:
    """What a check is called; one that is not known keeps its name."""
    for step, words in STEPS.items():
        base = name.removesuffix(f"_{step}")
        if base != name:
            return f"{_CHECKS[base]} · {words}" if base in _CHECKS else name
    return _CHECKS.get(name, name)


def event_sentence(kind: str, data: Mapping[str, Any]) -> str | None:
    """What happened, from an event of a case. None for what a report tells elsewhere: the checks."""
    match kind:
        case "status":
            return f"Status: {_STATUSES[data['status']][0].lower()}" if data["status"] in _STATUSES else None
        case "step":
            words = STEPS.get(data["step"], str(data["step"]))
            if data["state"] == "received":
                return f"{words}: uploaded, attempt {data['attempt']}"
            why = " ".join(reason["message"] for reason in data["reasons"])
            return f"{words}: asked for again. {why}".strip()
        case "decision":
            by = "A person decided" if data.get("review") else "Decision"
            why = " ".join(REASONS.get(code, code) for code in data["reasons"])
            return f"{by}: {outcome_words(data['outcome']).lower()}. {why}".strip()
    return None
