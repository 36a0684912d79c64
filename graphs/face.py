"""The face scan: from the upload to its checks. A function's parameters are its inputs.

Vision code is imported inside the functions, for the reason given in `document.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphs.findings import Findings, thumbnails
from graphs.judge import clear_unless, judge_failed_upload, judged, with_retry
from graphs.nodes import check, data
from graphs.records import CheckResult, Failed, Step
from workers.placement import CPU, GPU

if TYPE_CHECKING:
    from models.face.faces import EmbeddingModel, FaceTrack
    from models.liveness.pose import HeadMotion
    from models.media.decoding import Frames
    from workers.pool import ModelPool

FRAMES_PER_SECOND = 8.0
MAX_FRAMES = 32
MAX_SIDE = 640
DETAILS = 6
"""Number of frames whose centre is also kept at full resolution, to look for traces of a screen."""
EMBEDDED_CHIPS = 8
"""How many of the best chips are embedded: enough to average over pairs, and to notice that the face changes."""


@data(CPU)
def frames(upload: bytes, models: ModelPool) -> Frames:
    """Decode and sample the media once; all other nodes share the result."""
    from models.media.decoding import WIDEST

    return models.decoders.sample_frames(
        upload,
        rate_hz=FRAMES_PER_SECOND,
        max_frames=MAX_FRAMES,
        max_side=MAX_SIDE,
        limits=WIDEST,
        details=DETAILS,
    )


@data(GPU)
def faces_early(frames: Frames, models: ModelPool) -> FaceTrack:
    """Detect, align and embed the faces of the first half. One task, because a hop between tasks costs 2 ms."""
    return _faces_of(frames, slice(None, len(frames.images) // 2), models)


@data(GPU)
def faces_late(frames: Frames, models: ModelPool) -> FaceTrack:
    """The same for the second half, in parallel if a core is free: a person waits longest for this part."""
    return _faces_of(frames, slice(len(frames.images) // 2, None), models)


def _faces_of(frames: Frames, part: slice, models: ModelPool) -> FaceTrack:
    from models.face.track import track

    return track(
        frames.images[part],
        frames.timestamps[part],
        models.face_detector,
        models.landmarks,
        models.face_embedder,
        embed_best=EMBEDDED_CHIPS // 2,
    )


@data(CPU)
def faces(faces_early: FaceTrack, faces_late: FaceTrack) -> FaceTrack:
    """All faces of the scan, in order of time."""
    from models.face.faces import joined

    return joined(faces_early, faces_late)


@check(
    CPU,
    reasons={
        "no_face_in_video": "rejected",
        "several_faces_in_video": "rejected",
        "blurred_photo": "rejected",
        "dark_photo": "rejected",
        "undecodable_media": "rejected",
    },
    accepts_failed=True,
)
def quality(
    frames: Frames | Failed, faces: FaceTrack | Failed, thresholds: Mapping[str, float], retakes: frozenset[str]
) -> CheckResult:
    """Whether exactly one face is clearly visible. If not, the person is asked at once to film the step again."""
    from models.face.quality import measure_face

    if isinstance(frames, Failed):
        return judge_failed_upload(frames, "face", retakes)
    if isinstance(faces, Failed):
        return judge_failed_upload(faces, "face", retakes)
    per_frame = faces.per_frame()
    seen = sum(bool(found) for found in per_frame) / max(len(per_frame), 1)
    several = sum(len(found) > 1 for found in per_frame) / max(len(per_frame), 1)
    if seen < thresholds["min_seen_share"]:
        result = judged("rejected", {"no_face_in_video": "face"}, score=seen, threshold=thresholds["min_seen_share"])
        return with_retry(result, retakes)
    measures = [measure_face(frames.images[found[0].frame], found[0].box) for found in per_frame if found]
    sharpness = float(np.median([found.sharpness for found in measures]))
    brightness = float(np.median([found.brightness for found in measures]))
    limits = {
        "several_faces_in_video": several > thresholds["max_several_share"],
        "blurred_photo": sharpness < thresholds["min_sharpness"],
        "dark_photo": brightness < thresholds["min_brightness"],
    }
    codes: dict[str, Step | None] = {code: "face" for code, holds in limits.items() if holds}
    result = clear_unless(
        codes,
        score=seen,
        threshold=thresholds["min_seen_share"],
        several_share=round(several, 3),
        sharpness=round(sharpness, 1),
        brightness=round(brightness, 1),
    )
    return with_retry(result, retakes)


@data(CPU)
def motion(faces: FaceTrack) -> HeadMotion:
    """How the head moves over the frames: the input of two liveness checks."""
    from models.liveness.pose import head_motion

    return head_motion(faces)


@check(CPU, reasons={"challenge_not_followed": "rejected", "liveness_failed": "unidentified"})
def liveness_active(motion: HeadMotion, challenge: tuple[str, ...], thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the head made the movements that this case asked for, in that order. Defeats recordings made earlier."""
    from models.liveness.active import match_motion
    from models.liveness.challenge import Challenge

    if not challenge:
        return judged("not_run")
    found = match_motion(motion, Challenge.from_list(challenge))
    if not found.judged:
        return judged("unidentified", {"liveness_failed": "face"}, frames=found.frames)
    # Moving in all directions would pass any challenge, so movements that were not asked for are limited.
    followed = found.score >= thresholds["min_score"] and found.stray <= thresholds["max_stray"]
    return clear_unless(
        {} if followed else {"challenge_not_followed": "face"},
        score=found.score,
        threshold=thresholds["min_score"],
        actions=[{"action": a.action.value, "strength": round(a.strength, 2)} for a in found.actions],
        stray=round(found.stray, 2),
    )


@check(CPU, reasons={"planar_motion": "rejected", "liveness_failed": "unidentified"})
def liveness_geometric(motion: HeadMotion, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the landmarks move as those of a head, not of a flat picture (De Marsico et al., ICB 2012)."""
    from models.liveness.planar import judge_motion

    found = judge_motion(motion)
    if not found.judged:
        return judged("unidentified", {"liveness_failed": "face"})
    return clear_unless(
        {} if found.score >= thresholds["min_score"] else {"planar_motion": "face"},
        score=found.score,
        threshold=thresholds["min_score"],
    )


@check(
    CPU,
    reasons={
        "screen_replay": "rejected",
        "flickering_light": "rejected",
        "screen_suspected": "rejected",
        "liveness_failed": "unidentified",
    },
)
def liveness_passive(frames: Frames, faces: FaceTrack, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the picture has the texture of a screen.

    Bands alone may come from a lamp, and faint traces from chance; in both cases the person may film again.
    """
    from models.liveness.screen import screen_texture

    found = screen_texture(frames, faces)
    if not found.judged:
        return judged("unidentified", {"liveness_failed": "face"})
    grid = found.moire > thresholds["max_moire"] or found.colour_moire > thresholds["max_colour_moire"]
    bands = found.banding > thresholds["max_banding"]
    suspected = found.traces > thresholds["max_traces"]
    holds = {"screen_replay": grid, "flickering_light": bands, "screen_suspected": suspected}
    code = next((code for code, seen in holds.items() if seen), None)  # report only the strongest finding
    codes: dict[str, Step | None] = {code: "face"} if code else {}
    return clear_unless(
        codes,
        score=found.moire,
        threshold=thresholds["max_moire"],
        colour_moire=round(found.colour_moire, 3),
        banding=round(found.banding, 3),
        traces=round(found.traces, 2),
    )


@check(
    CPU,
    reasons={
        "face_changed_in_video": "rejected",
        "source_repeated_frames": "rejected",
        "liveness_failed": "unidentified",
    },
)
def continuity(frames: Frames, faces: FaceTrack, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the scan shows one face in one uncut recording."""
    from models.face.faces import of_one_model
    from models.liveness.continuity import continuity as measure

    found = measure(frames, faces)
    max_change = distance_limit(of_one_model(faces.faces), thresholds["max_identity_change"])
    limits = {
        "face_changed_in_video": found.identity_change > max_change,
        "source_repeated_frames": found.still_s > thresholds["max_still_s"]
        or found.loop_difference < thresholds["min_loop_difference"]
        or found.backwards > 0,
    }
    codes: dict[str, Step | None] = {code: "face" for code, holds in limits.items() if holds}
    measures = {key: value if np.isfinite(value) else None for key, value in asdict(found).items()}
    if not codes and not found.judged:
        return judged("unidentified", {"liveness_failed": "face"}, measures=measures)
    return clear_unless(
        codes,
        score=measures["identity_change"],
        threshold=max_change,
        measures=measures,
    )


def distance_limit(embedder: EmbeddingModel | None, of_policy: float) -> float:
    """The largest distance between two embeddings of the same person.

    of_policy: the policy's limit, fitted on the network that comes with this project. Another embedder has its own.
    """
    return of_policy if embedder is None or embedder.max_distance is None else embedder.max_distance


@data(CPU, low_priority=True)
def findings(frames: Frames, faces: FaceTrack) -> Findings:
    """The findings of the face step that are stored for later analysis."""
    from models.face.faces import of_one_model

    embedder = of_one_model(faces.faces)
    embedded = [face for face in faces.faces if face.embedding.size]
    size = embedded[0].embedding.size if embedded else 0
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "frames": thumbnails(frames.images),
        "frame_times": frames.timestamps,
        "source_differences": frames.source_differences,
        "face_frames": np.array([face.frame for face in faces.faces], np.int32),
        "face_boxes": np.array([face.box for face in faces.faces], np.float32).reshape(-1, 4),
        "landmarks": np.array([face.landmarks for face in faces.faces], np.float32).reshape(-1, 5, 2),
        "chips": np.array([face.chip for face in embedded], np.uint8).reshape(-1, 150, 150, 3),
        "embeddings": np.array([face.embedding for face in embedded], np.float32).reshape(len(embedded), size),
    }
    return Findings(arrays, {"size": list(faces.shape), "embedder": "" if embedder is None else str(embedder)})
