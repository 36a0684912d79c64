"""The conditions under which a specimen document is filmed or photographed.

The defaults are the demo's. Error rates need conditions drawn at random, because a rate from one kind of film says
little about others.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class DocumentConditions:
    """size: width and height of the film in pixels. frame_rate: Hz; the default is the cinema's, a fifth fewer than
    most phones take, and drawing frames is what specimens cost. crf: of H.264, higher is worse. quality: of JPEG, for a
    photo. warmth: of the light, -1 blue to 1 yellow. mosaic: the picture comes straight from a sensor that has one
    colour a pixel; without, a larger sensor was averaged down.

    The others are factors on what the seed gives: fill, share of the frame that the document takes; tilt, how far it
    is tilted on purpose; noise of the sensor; defocus; exposure; glare, brightness of the mirrored lamp. fringe: pixels
    by which red is pulled out and blue in at the corners of the picture, by the lens.
    """

    size: tuple[int, int] = (1280, 720)
    frame_rate: int = 24
    crf: int = 22
    quality: int = 92
    warmth: float = 0.0
    mosaic: bool = False
    fill: float = 1.0
    tilt: float = 1.0
    noise: float = 1.0
    defocus: float = 1.0
    exposure: float = 1.0
    glare: float = 1.0
    fringe: float = 0.0

    @classmethod
    def draw(cls, rng: random.Random) -> DocumentConditions:
        """What phones and browsers give in homes and offices: lit well enough, not ideal."""
        size = rng.choice(((1280, 720), (1920, 1080), (960, 540)))
        return cls(
            size=size,
            frame_rate=rng.choice((24, 25, 30)),
            crf=rng.randint(20, 30),
            quality=rng.randint(70, 95),
            warmth=rng.uniform(-0.7, 1.0),
            # Webcams have sensors of 1280 or 1920 pixels; 960 come from a larger one.
            mosaic=rng.random() < 0.4 and size[0] > 960,
            fill=rng.uniform(0.85, 1.12),
            tilt=rng.uniform(0.6, 1.2),
            noise=rng.uniform(0.5, 1.8),
            defocus=rng.uniform(0.7, 1.5),
            exposure=rng.uniform(0.75, 1.08),
            glare=rng.uniform(0.5, 1.2),
            fringe=rng.uniform(-0.5, 0.5),
        )


USUAL = DocumentConditions()
"""The demo's."""
