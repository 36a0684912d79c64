"""Errors of the graph layer; a branch of the tree in `models.errors`.

VeridaskError
├── ProfileError       a profile or policy that cannot be used
├── MarkerError        the marker of a sandbox case is invalid
├── ForcedError        a check of a sandbox case fails because its marker asks for it
└── EvaluationError    the items of a measurement are missing or cannot be used
"""

from __future__ import annotations

from models.errors import VeridaskError


class ProfileError(VeridaskError):
    """A profile or policy that cannot be used."""

    code = "unknown_profile"


class MarkerError(VeridaskError):
    """The marker of a sandbox case is invalid."""

    code = "invalid_sandbox_marker"


class ForcedError(VeridaskError):
    """A check of a sandbox case fails because its marker asks for it."""

    code = "sandbox_error"


class EvaluationError(VeridaskError):
    """The items of a measurement are missing or cannot be used."""

    code = "no_evaluation"
