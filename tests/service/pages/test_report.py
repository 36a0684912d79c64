"""The report of a case: what it shows of cases in every state, that a person can read it, and that it runs nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from graphs.profile import profiles
from graphs.reasons import REASONS, reason
from graphs.records import CheckResult, Decision, Step, Verdict
from service.client import VeridaskClient
from service.evidence.findings import ROOT_GROUP, decode_group, encode_group
from service.lifecycle.case import Case, Opinion, StepState
from service.lifecycle.transitions import cancel, decide, expire, redact, review
from service.pages.report.drawing import WIDTH, gauge, timelines
from service.pages.report.page import POLICY, page_of
from service.pages.report.words import check_title
from service.schemas.cases import CheckView
from service.server.local import Running
from service.store.api_keys import ApiKeys
from service.store.audit import AuditLog
from service.store.database import Database
from service.store.rows import StoredEvent
from service.views.cases import case_view, check_view
from tests.support.case_stores import NOW, VERDICT, new_case
from tests.support.data_folders import settings_in
from tests.support.pages import Page, contrast, unreadable, unsafe

EVIL = [
    '"><script>alert(1)</script>',
    "</style><img src=x onerror=alert(2)>",
    "{{ 7 * 7 }}",
    "' onload='alert(3)",
    "<!--",
]
CHECKS = profiles()["standard"].policy.checks


def complete() -> Case:
    received: dict[Step, StepState] = {"front": StepState("received", 1), "face": StepState("received", 2)}
    return replace(new_case(), steps=received, status="processing", last_received_at=NOW)


def decided(verdict: Verdict) -> Case:
    case = complete()
    change = decide(case, case.attempts, verdict, NOW + timedelta(seconds=2))
    assert change is not None
    return change.case


def page(case: Case, events: list[StoredEvent] | None = None, findings: Any = None) -> Page:
    shown = Page(page_of(case_view(case, events or ()), events or [], findings))
    assert (unsafe(shown), unreadable(shown), shown.wrong) == ([], [], [])
    return shown


def seen(name: str, score: float | None = None, threshold: float | None = None) -> CheckView:
    return check_view(CheckResult(name, "clear", score=score, threshold=threshold))


def told(*events: tuple[str, dict[str, Any]]) -> list[StoredEvent]:
    return [StoredEvent(n, "case", kind, data, NOW + timedelta(seconds=n)) for n, (kind, data) in enumerate(events)]


def test_a_decided_case_says_why_and_draws_scores_and_times() -> None:
    checks = (
        replace(VERDICT.checks[0], threshold=0.54, started_at=NOW.timestamp(), duration_ms=40, worker="gpu-0"),
        CheckResult("mrz_back", "not_run"),
        CheckResult(
            "quality_front", "clear", score=1104.7, threshold=50, started_at=NOW.timestamp() - 3600, duration_ms=9
        ),
    )
    shown = page(decided(replace(VERDICT, checks=checks)))
    assert "Declined" in shown.text
    assert REASONS["selfie_face_mismatch"] in shown.text
    assert "0.71, at most 0.54" in shown.text
    assert "1105, at least 50" in shown.text
    assert "Machine-readable zone · Back of the document" in shown.text
    assert "2.0 s from the last upload" in shown.text
    assert "pair pair Clear" in shown.text, "what a check consists of"
    assert len(shown.of("svg")) == 4, "two scores, and two timelines an hour apart"


@pytest.mark.parametrize("name", sorted(profiles()))
def test_every_check_has_a_name_in_words(name: str) -> None:
    for check in profiles()[name].policy.checks:
        assert check_title(check) != check


def test_undecided_canceled_expired_and_redacted_cases_say_what_is_there() -> None:
    started = told(
        ("status", {"status": "requires_input"}),
        ("step", {"step": "front", "state": "received", "attempt": 1, "reasons": []}),
        (
            "check",
            {"check": "quality_front", "result": "rejected", "started_at": 5.0, "duration_ms": 7.0, "worker": "w"},
        ),
        ("step", {"step": "front", "state": "retake", "attempt": 1, "reasons": [{"message": "Too dark."}]}),
    )
    case = new_case()
    open_one = page(case, started).text
    assert all(
        words in open_one for words in ("Waiting for recordings", "no decision yet", "retake requested. Too dark.")
    )
    assert "Picture quality · Front of the document quality_front Rejected" in open_one
    assert "Processing" in page(complete()).text
    assert "Canceled" in page(cancel(case, NOW).case).text
    over = expire(case, case.expires_at)
    assert over is not None
    assert "Expired" in page(over.case).text
    gone = redact(cancel(case, NOW).case, NOW)
    assert gone is not None
    redacted = page(replace(gone.case, erased_at=NOW)).text
    assert all(
        words in redacted
        for words in (
            "Redacted",
            "The pictures were erased.",
            "The results were erased.",
            "All personal data is removed",
        )
    )
    assert "person 7" not in redacted


def test_a_review_is_shown_with_what_it_took_the_place_of() -> None:
    doubt = Verdict(Decision("review", (reason("no_hologram_seen", "hologram_front", "front"),), "standard-2"), ())
    case = decided(doubt)
    assert "Needs review" in page(case).text
    opinion = Opinion("approved", "Seen in daylight.\nTwice.", "by phone")
    text = page(review(case, opinion, "key_a", NOW, NOW).case).text
    assert all(
        words in text
        for words in ("Approved A reviewer made this decision.", "by key_a", "Seen in daylight. Twice.", "by phone")
    )
    assert f"Before the review Needs review, {NOW + timedelta(seconds=2):%Y-%m-%d}" in text
    assert REASONS["no_hologram_seen"] in text


@pytest.mark.parametrize("evil", EVIL)
def test_what_comes_from_outside_is_text(evil: str) -> None:
    """A reference, metadata, what a document says, a reviewer's words, a worker's name: none of it becomes markup."""
    check = CheckResult(
        evil, "clear", model=evil, worker=evil, properties={evil: [evil]}, started_at=NOW.timestamp(), duration_ms=1
    )
    case = decided(Verdict(Decision("review", (), evil), (check,)))
    case = review(case, Opinion("declined", evil, evil), "key_a", NOW, NOW).case
    case = replace(case, client_reference_id=evil, metadata={evil: evil})
    shown = page(case)  # which looks for what could run
    assert shown.text.count(" ".join(evil.split())) >= 8


def test_pictures_are_those_of_the_findings() -> None:
    colours = np.zeros((9, 40, 60, 3), np.uint8)
    colours[:, :, :, 0] = 20 * np.arange(9)[:, None, None]
    files = {"zarr.json": ROOT_GROUP}
    arrays: dict[str, npt.NDArray[Any]] = {
        "chips": colours,
        "frames": colours[:2],
        "embeddings": np.zeros((9, 4), np.float32),
        "pages": colours[:0],
    }
    files |= {f"face/{path}": content for path, content in encode_group(arrays, {"attempt": 2}).items()}
    shown = page(decided(VERDICT), findings=decode_group(files))
    images = shown.of("img")
    assert [image["alt"] for image in images] == [
        *(f"Face scan: face {number}" for number in range(1, 7)),
        *(f"Face scan: frame of the recording {number}" for number in (1, 2)),
    ]
    assert "Face scan, attempt 2" in shown.text
    reds = []
    for image in images:
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1])))
        assert (picture.format, picture.size, (image["width"], image["height"])) == ("JPEG", (60, 40), ("60", "40"))
        reds.append(np.asarray(picture)[20, 30, 0])
    assert np.abs(np.array(reds, int) - 20 * np.array([0, 2, 3, 5, 6, 8, 0, 1])).max() <= 4


def test_the_style_is_the_one_that_the_policy_names_and_can_be_read() -> None:
    shown = page(new_case())
    assert len(shown.styles) == 1
    digest = base64.b64encode(hashlib.sha256(shown.styles[0].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    inside = next(meta["content"] for meta in shown.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert f"{inside}; frame-ancestors 'none'" == POLICY
    for colour in re.findall(r"[^-]color: (#\w{6})", shown.styles[0]):
        assert contrast(colour, "#ffffff") >= 4.5, colour
    good, score, track = (
        re.search(rf"\.{name} {{ fill: (#\w{{6}})", shown.styles[0]) for name in ("good", "score", "track")
    )
    assert good
    assert score
    assert track
    assert contrast(score[1], good[1]) >= 3
    assert contrast(score[1], track[1]) >= 3


@pytest.mark.parametrize(
    ("name", "score", "threshold", "good"),
    [
        ("match", 0.3, 0.54, (0, 0.54)),
        ("hologram_front", 0.02, 0.012, (0.012, None)),
        ("match", 0.3, 0.4, None),  # the threshold of another network: which side is good is not guessed
        ("match", -1.0, 0.54, (0, 0.54)),
    ],
)
def test_a_gauge_shows_which_side_is_good(
    name: str, score: float, threshold: float, good: tuple[float, float | None] | None
) -> None:
    drawn = gauge(seen(name, score, threshold), CHECKS[name])
    assert drawn is not None
    scale = WIDTH / (1.25 * max(abs(score), threshold))
    assert (drawn.score_x, drawn.threshold_x) == pytest.approx((max(0, score * scale), threshold * scale))
    if good is None:
        assert drawn.good_x is None
    else:
        end = WIDTH if good[1] is None else good[1] * scale
        assert (drawn.good_x, drawn.good_width) == pytest.approx((good[0] * scale, end - good[0] * scale))


def test_checks_that_have_no_numbers_are_not_drawn() -> None:
    assert gauge(seen("match"), CHECKS["match"]) is None
    assert gauge(seen("match", 0, 0), None) is not None
    assert timelines([seen("match")]) == []


def reader(server_folder: Path) -> str:
    database = Database(settings_in(server_folder).store_url)
    text = ApiKeys(database).create("reader", ["evidence:read"], datetime.now(UTC))[1]
    database.engine.dispose()
    return text


def pictured(page: Page) -> set[str]:
    """What the page has pictures of."""
    return {image["alt"].split(":")[0] for image in page.of("img")}


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_the_report_of_a_genuine_person(
    server: Running, server_folder: Path, client: VeridaskClient, http: httpx.Client, films: dict[Step, bytes]
) -> None:
    case = client.create("recorded", client_reference_id=EVIL[0], metadata={"a": EVIL[1]})
    for step, film in films.items():
        client.upload(case.id, step, film, "video/mp4")
    assert client.decided(case.id).status == "completed"
    pictures = {"Front of the document", "Back of the document", "Face scan"}
    with VeridaskClient(server.url, reader(server_folder)) as looking:
        # Findings are written when nobody waits any more, each step's for itself.
        while pictured(shown := Page(looking.report(case.id))) != pictures:
            time.sleep(0.2)
    assert (unsafe(shown), unreadable(shown), shown.wrong) == ([], [], [])
    assert shown.text.count("document, straightened") >= 4
    assert len(shown.of("svg")) > 8, "scores and at least one timeline"
    assert EVIL[0] in shown.text
    answer = http.get(f"/v1/cases/{case.id}/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert len(answer.content) < 8 * 1024 * 1024

    redacted = http.post(f"/v1/cases/{case.id}/redact")
    assert redacted.status_code == 200
    after = client.report(case.id)
    assert "The pictures were erased." in Page(after).text
    assert not Page(after).of("img")
    log = [(entry.action, entry.details.get("part")) for entry in audited(server_folder, case.id)]
    assert log.count(("evidence.read", "report")) >= 2


def audited(folder: Path, case_id: str) -> list[Any]:
    database = Database(settings_in(folder).store_url)
    try:
        return [line.entry for line in AuditLog(database).verified() if line.entry.case_id == case_id]
    finally:
        database.engine.dispose()
