"""The scenarios of the demo and the tests: who shows what, and which outcome and reason are expected.

Only names and descriptions are here; `film_step` makes the films and loads the renderer. So processes that must stay
light (the API's, the demo's) can read the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Literal

from models.specimens.conditions import USUAL, DocumentConditions

if TYPE_CHECKING:
    from models.specimens.face_scan import FaceConditions

Step = Literal["front", "back", "face"]


@dataclass(frozen=True)
class Scenario:
    """One case to play. design and portrait: of the document. document_attack and face_attack: values of
    `attacks.DocumentAttack` and `face_attacks.FaceAttack`, empty for none; attacked: the steps the first applies to.
    outcome and reason: what must be decided, and its first reason, empty where there must be none.
    """

    name: str
    design: str
    portrait: str
    outcome: str
    reason: str = ""
    document_attack: str = ""
    attacked: tuple[Step, ...] = ()
    face_attack: str = ""


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("genuine, first person", "azure", "astronaut", "approved"),
    Scenario("genuine, second person", "ochre", "grace_hopper", "approved"),
    Scenario("photo of a screen", "azure", "astronaut", "declined", "photo_of_screen", "photo_of_screen", ("front",)),
    Scenario("printed grey copy", "ochre", "grace_hopper", "declined", "gray_copy", "gray_copy", ("front",)),
    Scenario("moved photo of the face", "azure", "astronaut", "declined", "planar_motion", face_attack="moved_photo"),
    Scenario(
        "somebody else's face", "ochre", "grace_hopper", "declined", "selfie_face_mismatch", face_attack="other_person"
    ),
    Scenario("altered MRZ", "azure", "astronaut", "declined", "mrz_check_digit", "mrz_check_digit", ("back",)),
    Scenario(
        "altered printed field", "ochre", "grace_hopper", "declined", "data_mismatch", "data_mismatch", ("front",)
    ),
    Scenario(
        "expired document", "azure", "astronaut", "declined", "document_expired", "document_expired", ("front", "back")
    ),
    Scenario(
        "blurred back", "ochre", "grace_hopper", "resubmission_requested", "blurred_photo", "blurred_photo", ("back",)
    ),
    Scenario(
        "two people in the scan",
        "azure",
        "astronaut",
        "resubmission_requested",
        "several_faces_in_video",
        face_attack="two_people",
    ),
    Scenario(
        "recording made before",
        "ochre",
        "grace_hopper",
        "resubmission_requested",
        "challenge_not_followed",
        face_attack="old_recording",
    ),
)


def film_step(
    scenario: Scenario,
    step: Step,
    challenge: Sequence[str],
    *,
    seed: int,
    today: date,
    conditions: DocumentConditions = USUAL,
    scan_conditions: FaceConditions | None = None,
    still: bool = False,
) -> bytes:
    """The MP4 that is uploaded for one step of a scenario. challenge: the case's actions; today: dates are around it.

    conditions, scan_conditions: how documents and the face are filmed, by default well; still: a document is
    photographed, which gives a JPEG. The same arguments give the same document and the same motion; front and back of
    one seed are one document.
    """
    from models.liveness.challenge import Challenge
    from models.specimens.attacks import DocumentAttack
    from models.specimens.capture import back_scene, front_scene, photo, record
    from models.specimens.designs import DESIGN_NAMES
    from models.specimens.document import make_specimen
    from models.specimens.face_attacks import FaceAttack, attack_scan
    from models.specimens.face_scan import face_scan
    from models.specimens.person import PORTRAITS

    if step == "face":
        film = partial(attack_scan, FaceAttack(scenario.face_attack)) if scenario.face_attack else face_scan
        return film(scenario.portrait, Challenge.from_list(challenge), seed=seed, conditions=scan_conditions).data
    design = next(name for name in DESIGN_NAMES if name == scenario.design)
    portrait = next(name for name in PORTRAITS if name == scenario.portrait)
    specimen = make_specimen(seed, design=design, portrait=portrait, today=today)
    attack = DocumentAttack(scenario.document_attack) if step in scenario.attacked else None
    scene_of = partial(front_scene if step == "front" else back_scene, specimen, seed=seed, attack=attack)
    if still:
        return photo(scene_of(conditions=conditions, seconds=0.6))
    return record(scene_of(conditions=conditions)).data


def one_thread() -> None:
    """Keep OpenCV to one thread in this process: for pools that have a process for each core."""
    import cv2

    cv2.setNumThreads(0)
