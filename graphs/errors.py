"""Errors of the graph layer; a branch of the tree in `models.errors`.

VeridaskError
├── ProfileError       a profile or policy that cannot be used
├── MarkerError        the marker of a sandbox case means nothing
├── ForcedError        a check of a sandbox case fails because its marker says so
└── EvaluationError    items of a measurement that are not there or cannot be used
"""

from __future__ import annotations

from models.errors import VeridaskError


class ProfileError(VeridaskError):
    """A profile or policy that cannot be used."""

    code = "unknown_profile"


class MarkerError(VeridaskError):
    """The marker of a sandbox case means nothing."""

    code = "invalid_sandbox_marker"


class ForcedError(VeridaskError):
    """A check of a sandbox case fails because its marker says so."""

    code = "sandbox_error"


class EvaluationError(VeridaskError):
    """Items of a measurement that are not there, or cannot be used."""

    code = "no_evaluation"
