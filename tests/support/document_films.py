"""Short films of specimen documents: rendered, encoded, decoded and rectified, at five frames a second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cache

import numpy as np
import numpy.typing as npt

from models.media.decoding import MediaLimits, sample_frames
from models.page.quad import Quad, rectify
from models.specimens.attacks import DocumentAttack
from models.specimens.capture import back_scene, front_scene
from models.specimens.document import Specimen, make_specimen
from models.specimens.video import encode_mp4

TODAY = date(2026, 6, 1)
_EVERY = 6  # of 30 frames a second
_ERROR = 1.5  # pixels, standard deviation of the corners found by a page finder


@dataclass(frozen=True)
class Film:
    """The pages of a film. pages: uint8 (N, 638, 1012, 3); small: uint8 (N, 319, 506, 3)."""

    specimen: Specimen
    pages: npt.NDArray[np.uint8]
    small: npt.NDArray[np.uint8]


@cache
def film(side: str, attack: DocumentAttack | None, seed: int, seconds: float = 2.4) -> Film:
    """Make a film, always the same for the same arguments. Takes about two seconds."""
    specimen = make_specimen(seed, design="azure" if seed % 2 else "ochre", portrait="astronaut", today=TODAY)
    scene = (front_scene if side == "front" else back_scene)(specimen, seed=seed, attack=attack, seconds=seconds)
    lens = replace(
        scene.lens,
        defocus=scene.lens.defocus[::_EVERY],
        exposure=scene.lens.exposure[::_EVERY],
        shutter=scene.lens.shutter / _EVERY,  # the smear is reckoned from one frame to the next
    )
    scene = replace(scene, poses=scene.poses[::_EVERY], lens=lens)
    data = encode_mp4(scene.frames(), frame_rate=30 // _EVERY)
    frames = sample_frames(data, rate_hz=5.0, max_frames=16, max_side=1280, limits=MediaLimits())
    corners = scene.quads()[:, 0] + np.random.default_rng(seed).normal(0, _ERROR, (len(scene.poses), 4, 2))
    quads = [Quad(c.astype(np.float32), 1.0) for c in corners]
    pairs = list(zip(frames.images, quads, strict=True))
    return Film(
        specimen,
        np.stack([rectify(image, quad) for image, quad in pairs]),
        np.stack([rectify(image, quad, (506, 319)) for image, quad in pairs]),
    )
