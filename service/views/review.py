"""What a reviewer sent, as the service works with it."""

from __future__ import annotations

from graphs.reasons import reason
from service.lifecycle.case import Opinion
from service.schemas.review import ReviewBody

REVIEW = "review"
"""The check that the reasons of a reviewer name."""


def opinion_of(body: ReviewBody) -> Opinion:
    """The reviewer's decision, with its reasons written out; they may be mended where steps are asked for again."""
    again = body.outcome == "resubmission_requested"
    reasons = tuple(reason(given.code, REVIEW, given.step, retryable=again) for given in body.reasons)
    return Opinion(body.outcome, body.explanation, body.note, reasons, tuple(dict.fromkeys(body.retake)))
