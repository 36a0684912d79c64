"""Errors of the graph layer; a branch of the tree in `models.errors`.

VeridaskError
└── ProfileError    a profile or policy that cannot be used
"""

from __future__ import annotations

from models.errors import VeridaskError


class ProfileError(VeridaskError):
    """A profile or policy that cannot be used."""

    code = "unknown_profile"
