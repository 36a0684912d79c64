"""Turns a reviewer's request into the record that the service works with."""

from __future__ import annotations

from graphs.reasons import reason
from service.lifecycle.case import Opinion
from service.schemas.review import ReviewBody

REVIEW = "review"
"""The check named in a reviewer's reasons."""


def opinion_of(body: ReviewBody) -> Opinion:
    """The reviewer's decision, with the sentences of its reasons. They are retryable if steps are to be retaken."""
    again = body.outcome == "resubmission_requested"
    reasons = tuple(reason(given.code, REVIEW, given.step, retryable=again) for given in body.reasons)
    return Opinion(body.outcome, body.explanation, body.note, reasons, tuple(dict.fromkeys(body.retake)))
