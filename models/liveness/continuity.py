"""Continuity: whether this is one unbroken film of one face.

Frames that repeat, stand still or have irregular timestamps point to an edited or injected video. A face that changes,
jumps or is not alone means that more than one person was filmed. Measures only: the policy sets the limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.face.faces import Face, FaceTrack
from models.liveness.pose import main_faces
from models.media.decoding import Frames

F64 = npt.NDArray[np.float64]

SAME_FRAME = 0.02
"""Mean luma difference (0..255) up to which two consecutive frames are one frame shown twice: an encoder that copies
a frame gives 0 or a rounding; the noise of a sensor gives ten times as much after H.264."""
STILL = 0.15
"""Mean luma difference over a stretch under which the picture stands still: noise and sway gave 0.6 and more, frozen
videos 0.03 and less (specimens 0 to 7, H.264 at crf 21 to 26)."""
COMPANION_SIZE = 0.4
"""A second face counts from this share of the largest one's height: smaller ones are passers-by and pictures."""
_LOOP_S = 0.8
"""Length of the stretches that are compared to find a loop."""
_SHORTEST_LOOP_S = 0.4
_OUT_OF_STEP_S = 0.17
"""A stretch that comes again fits at one lag; this much earlier or later it does not, as far as anything moves in it. A
pose that a person comes back to fits at many.
"""
_HARDLY_MOVED = 0.25
"""Mean difference of blocks (luma, 0..255) under which nothing moved, and nothing can come again: somebody who keeps
quite still is no loop."""
_MIN_SIDE = 2
"""Embeddings on each side of a moment; a track embeds only a few of its faces, spread over time."""
_NEIGHBOURS_S = 0.25


@dataclass(frozen=True)
class Continuity:
    """Measures over the whole scan.

    face_share: frames with a face, 0..1. company_share: frames with a second face of at least COMPANION_SIZE, of those
    with a face. identity_change: the largest distance between the mean embeddings before and after any moment, 0 for
    one face without noise, about the distance of two people for a swap; NaN without enough embeddings. largest_jump:
    of the face between two neighbouring samples at most 0.25 s apart, in widths of the face. still_share: repeated
    frames of the source, 0..1. still_s: the longest
    stretch of the source, seconds, whose mean change stays under STILL: an encoder goes on correcting a frozen picture.
    loop_difference: how far any two stretches of the source differ at least, as a share of how far they differ a little
    out of step: 0.02 to 0.25 when a stretch comes again, about 0.5 and more in living films of 2 to 9 s (seeds 30000 to
    30023, each at three speeds), 1 for stretches in which nothing moves, NaN when the video is too short to tell.
    largest_gap_s: between source frames. backwards: source frames whose time does not grow. frames: sampled;
    source_frames: in the media.
    """

    face_share: float
    company_share: float
    identity_change: float
    largest_jump: float
    still_share: float
    still_s: float
    loop_difference: float
    largest_gap_s: float
    backwards: int
    frames: int
    source_frames: int

    @property
    def judged(self) -> bool:
        """Whether enough faces were embedded to say that they are one person's."""
        return bool(np.isfinite(self.identity_change))


def continuity(frames: Frames, track: FaceTrack) -> Continuity:
    """Measure a scan. track: of these frames."""
    faces = main_faces(track)
    steps = np.diff(frames.source_timestamps)
    still = frames.source_differences <= SAME_FRAME
    company = sum(
        len(group) > 1 and _height(group[1]) >= COMPANION_SIZE * _height(group[0]) for group in track.per_frame()
    )
    return Continuity(
        face_share=len(faces) / max(len(track.timestamps), 1),
        company_share=company / max(len(faces), 1),
        identity_change=_identity_change(faces),
        largest_jump=_largest_jump(faces, track.timestamps),
        still_share=float(still.mean()) if len(still) else 0.0,
        still_s=_longest_still(frames),
        loop_difference=_loop_difference(frames),
        largest_gap_s=float(steps.max()) if len(steps) else 0.0,
        backwards=int((steps <= 0).sum()),
        frames=len(frames.images),
        source_frames=len(frames.source_timestamps),
    )


def _height(face: Face) -> float:
    return float(face.box[3] - face.box[1])


def _identity_change(faces: list[Face]) -> float:
    embeddings = np.array([face.embedding for face in faces if len(face.embedding)], dtype=np.float64)
    if len(embeddings) < 2 * _MIN_SIDE:
        return float("nan")
    total = embeddings.cumsum(0)
    counts = np.arange(1, len(embeddings) + 1)[:, None]
    before = total[:-1] / counts[:-1]
    after = (total[-1] - total[:-1]) / (len(embeddings) - counts[:-1])
    change = np.linalg.norm(before - after, axis=1)
    return float(change[_MIN_SIDE - 1 : len(change) - _MIN_SIDE + 1].max())


def _largest_jump(faces: list[Face], timestamps: F64) -> float:
    if len(faces) < 2:
        return 0.0
    boxes = np.stack([face.box for face in faces]).astype(np.float64)
    times = timestamps[[face.frame for face in faces]]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    widths = (boxes[1:, 2] - boxes[1:, 0] + boxes[:-1, 2] - boxes[:-1, 0]) / 2
    jumps = np.linalg.norm(np.diff(centres, axis=0), axis=1) / np.maximum(widths, 1)
    return float(np.where(np.diff(times) <= _NEIGHBOURS_S, jumps, 0).max())


def _longest_still(frames: Frames) -> float:
    changes = np.minimum(frames.source_differences.astype(np.float64), 10 * STILL)
    excess = np.concatenate([[0.0], (changes - STILL).cumsum()])
    # The stretch i..j is still when excess[j] <= excess[i]; from each i the last such j.
    ends = [int(np.flatnonzero(excess[i:] <= excess[i])[-1]) + i for i in range(len(excess))]
    return max(
        (float(frames.source_timestamps[j] - frames.source_timestamps[i]) for i, j in enumerate(ends)), default=0.0
    )


def _loop_difference(frames: Frames) -> float:
    """Pictures that come again are alike, and those just before and after are not, unless nothing moves. Compared as
    means of blocks, which keep motion and light but little of noise and codec: single pixels of a loop differ by these
    as much as those of two moments.

    Held against the stretch half way between, as it was before, somebody who looks straight again after a slow turn
    looked like a loop: 4 of 8 living films of eight seconds.
    """
    blocks = frames.source_blocks.reshape(len(frames.source_blocks), -1)
    step = float(np.median(np.diff(frames.source_timestamps))) if len(blocks) > 1 else 0.0
    if not step > 0:
        return float("nan")
    length, shortest = max(6, round(_LOOP_S / step)), max(4, round(_SHORTEST_LOOP_S / step))
    off = max(2, round(_OUT_OF_STEP_S / step))
    apart = [_apart(blocks, lag, length) for lag in range(len(blocks) - length + 1)]
    least = float("nan")
    for lag in range(max(shortest, off + 1), len(apart) - off):
        n = len(apart[lag + off])
        beside = np.minimum(apart[lag - off][:n], apart[lag + off])
        share = np.where(beside >= _HARDLY_MOVED, apart[lag][:n] / np.maximum(beside, _HARDLY_MOVED), 1.0)
        least = float(np.fmin(least, share.min()))
    return least


def _apart(blocks: npt.NDArray[np.float32], lag: int, length: int) -> F64:
    """Mean difference between the stretch of `length` frames from each frame on and that `lag` frames later."""
    differences = np.abs(blocks[lag:] - blocks[: len(blocks) - lag]).mean(axis=1, dtype=np.float64)
    total = np.concatenate([[0.0], differences.cumsum()])
    return np.asarray((total[length:] - total[:-length]) / length)
