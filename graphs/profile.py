"""Profiles and their policies: data in `profiles/*.json`. Read and validated once, never changed by code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from graphs.errors import ProfileError
from graphs.reasons import REASONS
from graphs.records import Step

Effect = Literal["decline", "retake", "review"]
_SHADOW = re.compile(r"[a-z][a-z0-9_]{0,39}")
EFFECTS: tuple[Effect, ...] = ("decline", "retake", "review")


@dataclass(frozen=True)
class CheckPolicy:
    """The rules for one check: its thresholds by name, and whether it must be clear for an approval."""

    required: bool
    thresholds: Mapping[str, float]


@dataclass(frozen=True)
class Policy:
    """Versioned rules of decision.

    checks: the rules for each check, in the order of the check tree, the most important first. effects: what each
    reason code leads to. max_attempts: uploads allowed for each step before a reason to retake leads to review.
    """

    version: str
    checks: Mapping[str, CheckPolicy]
    effects: Mapping[str, Effect]
    max_attempts: int


@dataclass(frozen=True)
class Profile:
    """A named configuration of the service.

    accepts: the steps of a case, each with the kinds of media it accepts (`video`, `image`). challenge_actions: how
    many head movements the challenge has. open_seconds: how long a case stays open. retention_days: days from the end
    of a case until it is redacted automatically; None keeps it until redaction is requested. sandbox: checks give the
    result that the case's marker asks for (`graphs.sandbox`). shadows: other policies by name, tried on the same cases
    without deciding anything (`graphs.shadow`).
    """

    name: str
    title: str
    accepts: Mapping[Step, tuple[str, ...]]
    challenge_actions: int
    open_seconds: int
    retention_days: int | None
    policy: Policy
    sandbox: bool = False
    shadows: Mapping[str, Policy] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the profile, in the order in which they are asked for."""
        return tuple(self.accepts)


def parse_profile(raw: Mapping[str, Any]) -> Profile:
    """Make a profile from decoded JSON. Raises ProfileError if a part is missing or a reason code is unknown."""
    try:
        found = Profile(
            name=str(raw["name"]),
            title=str(raw["title"]),
            accepts={step: tuple(kinds) for step, kinds in raw["accepts"].items()},
            challenge_actions=int(raw["challenge_actions"]),
            open_seconds=int(raw["open_seconds"]),
            retention_days=int(raw["retention_days"]) if "retention_days" in raw else None,
            policy=_policy(raw["policy"]),
            sandbox=bool(raw.get("sandbox", False)),
            shadows={
                str(name): _policy(merged(raw["policy"], patch)) for name, patch in raw.get("shadows", {}).items()
            },
        )
        if found.retention_days is not None and found.retention_days < 1:
            raise ValueError("retention_days must be at least 1")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProfileError(f"profile cannot be read: {type(error).__name__} {error}") from error
    for policy in (found.policy, *found.shadows.values()):
        unknown = set(policy.effects) - set(REASONS)
        missing = set(REASONS) - set(policy.effects)
        if unknown or missing or not set(policy.effects.values()) <= set(EFFECTS):
            raise ProfileError(
                f"profile {found.name}: unknown reasons {sorted(unknown)}, without effect {sorted(missing)}"
            )
    for name, shadow in found.shadows.items():
        _require_shadow(found, name, shadow)
    return found


def _policy(raw: Mapping[str, Any]) -> Policy:
    return Policy(
        version=str(raw["version"]),
        checks={
            name: CheckPolicy(bool(c["required"]), {k: float(v) for k, v in c["thresholds"].items()})
            for name, c in raw["checks"].items()
        },
        effects={str(code): effect for effect, codes in raw["effects"].items() for code in codes},
        max_attempts=int(raw["max_attempts"]),
    )


def _require_shadow(profile: Profile, name: str, shadow: Policy) -> None:
    """Make sure that a shadow has a name allowed in a task key, its own version, and at least one change.

    It must also name the same checks and thresholds as the policy. Otherwise a misspelt name would go unnoticed, and
    the shadow would be tried as if nothing had changed.
    """
    if _SHADOW.fullmatch(name) is None:
        raise ProfileError(f"profile {profile.name}: {name!r} is no name of a shadow")
    if shadow.version in {profile.policy.version, *(o.version for n, o in profile.shadows.items() if n != name)}:
        raise ProfileError(f"profile {profile.name}: shadow {name} has the version of another policy")
    if replace(shadow, version=profile.policy.version) == profile.policy:
        raise ProfileError(f"profile {profile.name}: shadow {name} changes nothing")
    if {check: set(how.thresholds) for check, how in shadow.checks.items()} != {
        check: set(how.thresholds) for check, how in profile.policy.checks.items()
    }:
        raise ProfileError(f"profile {profile.name}: shadow {name} has other checks or thresholds than the policy")


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch (RFC 7396): objects merge, null removes, anything else replaces."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


@cache
def profiles() -> Mapping[str, Profile]:
    """All profiles of this build, by name. A profile that `extends` another is a merge patch of it."""
    folder = files("graphs") / "profiles"
    raw = [json.loads(entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".json")]
    by_name = {each["name"]: each for each in sorted(raw, key=lambda each: str(each["name"]))}
    return {
        name: parse_profile(merged(by_name[each["extends"]], each) if "extends" in each else each)
        for name, each in by_name.items()
    }


def get_profile(name: str) -> Profile:
    """The profile with this name. Raises ProfileError if there is none."""
    try:
        return profiles()[name]
    except KeyError:
        raise ProfileError(f"There is no profile {name!r}. Profiles: {', '.join(profiles())}.") from None


def is_sandbox(name: str) -> bool:
    """Whether this is a sandbox profile, in which nothing is really checked; false for an unknown name."""
    profile = profiles().get(name)
    return profile is not None and profile.sandbox
