"""The whole graph on one screen: the nodes of each upload, then the nodes that compare uploads with each other.

    upload_front → frames → pages → quality, text, tampering, portrait, hologram, recapture┐
    upload_back  → frames → pages → quality, mrz_lines → mrz, validity, barcode ───────────┼→ consistency, match
    upload_face  → frames → faces ×2 → faces → quality, liveness ×3, continuity ───────────┘

Each name is a function in `document.py` (both sides), `front.py`, `back.py`, `face.py` or `across.py`. Its parameters
are its inputs. A last task, `verdict` in `case.py`, combines the results of all checks and decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from graphs import across, back, document, face, front
from graphs.errors import ProfileError
from graphs.nodes import Node, wire
from graphs.profile import Profile
from graphs.records import Step

NODES: Mapping[str, Node] = wire(
    {
        "front": (
            document.frames,
            document.pages,
            document.quality,
            front.text_lines,
            front.text,
            front.tampering,
            front.portrait_face,
            front.portrait,
            front.hologram,
            document.recapture,
            document.findings,
        ),
        "back": (
            document.frames,
            document.pages,
            document.quality,
            back.mrz_lines,
            back.mrz,
            back.validity,
            back.barcode_payload,
            back.barcode,
            document.recapture,
            document.findings,
        ),
        "face": (
            face.frames,
            face.faces_early,
            face.faces_late,
            face.faces,
            face.quality,
            face.motion,
            face.liveness_active,
            face.liveness_geometric,
            face.liveness_passive,
            face.continuity,
            face.findings,
        ),
        None: (across.consistency, across.match),
    }
)


@cache
def steps_of(name: str) -> frozenset[Step]:
    """The steps whose uploads a node depends on. Cached, because creating one case calls this about a hundred times."""
    node = NODES[name]
    found: set[Step] = set()
    for source in node.inputs.values():
        if source.startswith("upload_"):
            found.add(source.removeprefix("upload_"))  # type: ignore[arg-type]
        else:
            found |= steps_of(source)
    return frozenset(found)


def nodes_for(profile: Profile) -> dict[str, Node]:
    """The nodes that a profile runs: all that its steps can feed, without the checks that its policy does not name."""
    steps = frozenset(profile.steps)
    return {
        name: node
        for name, node in NODES.items()
        if steps_of(name) <= steps and (not node.placement.is_check or name in profile.policy.checks)
    }


def require_runnable(profile: Profile) -> None:
    """Make sure that each check named by a policy of the profile exists and gets its inputs from the profile's steps.

    A check that never runs could never be clear, so no case could be approved. Raises ProfileError.
    """
    for policy in (profile.policy, *profile.shadows.values()):
        steps = frozenset(profile.steps)
        able = {name for name, node in NODES.items() if node.placement.is_check and steps_of(name) <= steps}
        if unable := policy.checks.keys() - able:
            raise ProfileError(
                f"profile {profile.name}: policy {policy.version} names checks that do not exist or that its steps "
                f"cannot feed: {', '.join(sorted(unable))}"
            )


def reusable_nodes(profile: Profile, step: Step) -> tuple[str, ...]:
    """The nodes of a step to keep for a retake of another step: its checks, and the inputs of cross-step checks."""
    nodes = nodes_for(profile)
    joined = {source for node in nodes.values() if node.step is None for source in node.inputs.values()}
    return tuple(
        name for name, node in nodes.items() if node.step == step and (node.placement.is_check or name in joined)
    )
