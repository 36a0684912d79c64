"""Profiles are data, validated when they are read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.errors import ProfileError
from graphs.flow import nodes_for, require_runnable
from graphs.profile import get_profile, merged, parse_profile, profiles

STANDARD: dict[str, Any] = json.loads((files("graphs") / "profiles" / "standard.json").read_text("utf-8"))


@pytest.mark.parametrize("name", sorted(profiles()))
def test_the_policy_names_exactly_the_checks_that_run(name: str) -> None:
    """A check missing in the policy would have no thresholds; one that never runs could never be clear."""
    profile = get_profile(name)
    running = {check for check, node in nodes_for(profile).items() if node.placement.is_check}
    assert set(profile.policy.checks) == running
    assert ("liveness_active_face" in running) == bool(profile.challenge_actions)
    assert ("hologram_front" in running) == ("video" in profile.accepts["front"])


def test_extending_takes_over_thresholds() -> None:
    assert get_profile("recorded").policy.checks["match"] == get_profile("standard").policy.checks["match"]
    assert get_profile("document").steps == ("front", "back")


def test_a_still_that_looks_like_a_screen_is_looked_at_by_a_human() -> None:
    """Regression: 110 of 200 stills of genuine specimens were declined. Such stills now lead to review."""
    effects = {name: get_profile(name).policy.effects for name in ("standard", "document")}
    assert effects["document"] == {**effects["standard"], "photo_of_screen": "review"}
    assert effects["standard"]["photo_of_screen"] == "decline"


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.pop("accepts"),
        lambda raw: raw["policy"].pop("version"),
        lambda raw: raw["policy"]["effects"]["decline"].append("made_up"),
        lambda raw: raw["policy"]["effects"]["decline"].pop(),
        lambda raw: raw["policy"]["effects"].update(pardon=raw["policy"]["effects"].pop("review")),
        lambda raw: raw["policy"].update(checks=[]),
        lambda raw: raw["policy"]["checks"]["match"].update(thresholds={"max_distance": "near"}),
    ],
)
def test_a_broken_profile_is_refused(damage: Callable[[dict[str, Any]], object]) -> None:
    raw = copy.deepcopy(STANDARD)
    parse_profile(raw)
    damage(raw)
    with pytest.raises(ProfileError):
        parse_profile(raw)


@pytest.mark.parametrize("check", ["made_up", "match"])
def test_a_policy_that_names_a_check_that_cannot_run_is_refused(check: str) -> None:
    """`match` needs the face, which the profile `document` does not ask for."""
    raw = merged(STANDARD, {"accepts": {"face": None}, "challenge_actions": 0})
    for name in [name for name in raw["policy"]["checks"] if name == "match" or name.endswith("_face")]:
        raw = merged(raw, {"policy": {"checks": {name: None}}})
    require_runnable(parse_profile(raw))
    raw = merged(raw, {"policy": {"checks": {check: {"required": True, "thresholds": {}}}}})
    with pytest.raises(ProfileError, match=check):
        require_runnable(parse_profile(raw))


def test_unknown_profile() -> None:
    with pytest.raises(ProfileError, match="There is no profile 'other'"):
        get_profile("other")


json_values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(), lambda v: st.dictionaries(st.text(max_size=2), v, max_size=3)
)
objects = st.dictionaries(st.text(max_size=2), json_values, max_size=4)


@given(objects, objects)
def test_merge_patch_wins_and_repeats_harmlessly(base: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merged(base, patch)
    assert merged(once, patch) == once
    assert set(once) == set(base) | set(patch)
    assert merged(once, dict.fromkeys(once)) == {}
