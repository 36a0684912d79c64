"""Errors of the graph layer; a branch of the tree in `models.errors`.

VeridaskError
├── ProfileError       a profile or policy that cannot be used
└── EvaluationError    items of a measurement that are not there or cannot be used
"""

from __future__ import annotations

from models.errors import VeridaskError


class ProfileError(VeridaskError):
    """A profile or policy that cannot be used."""

    code = "unknown_profile"


class EvaluationError(VeridaskError):
    """Items of a measurement that are not there, or cannot be used."""

    code = "no_evaluation"
