"""Whether films in which a stretch comes again are told from those in which a person looks straight again, by speed.

    python -m benchmarks.checks.loops [--seeds 36000-36023]

Films of specimens (synthetic) under varied conditions: of each seed a genuine one and one that plays a second again
and again, each at three speeds, because whoever has time moves slowly. Decoded and measured as in a case, with the
threshold of `standard`; challenge and other checks do not count here. Writes out/loops.html.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bokeh.plotting import figure, save
from bokeh.resources import INLINE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.evaluation.presentation import challenge_of
from graphs.profile import get_profile
from models.face.faces import FaceTrack
from models.liveness.challenge import Challenge
from models.liveness.continuity import continuity
from models.media.decoding import WIDEST, sample_frames
from models.specimens.face_attacks import FaceAttack, attack_scan
from models.specimens.face_scan import FaceConditions, face_scan
from models.specimens.head import PORTRAITS

SPEEDS = (1.1, 0.6, 0.36)
"""1 is about 1.2 s an action; the slowest fills the time that the capture page gives."""
GENUINE, REPEATED = "genuine", "repeated"
COLOURS = {GENUINE: "#0550ae", REPEATED: "#a40e26"}


@dataclass(frozen=True)
class Film:
    """speed: see `SPEEDS`; seconds: its length; difference: `Continuity.loop_difference`, 0 to about 1."""

    kind: str
    speed: float
    seconds: float
    difference: float


def measured(kind: str, seed: int, speed: float) -> Film:
    """Draw a film and measure it."""
    conditions = replace(FaceConditions.draw_varied(random.Random(f"loops {seed}")), tempo=speed)
    challenge, portrait = Challenge.from_list(challenge_of(seed)), list(PORTRAITS)[seed % len(PORTRAITS)]
    if kind == GENUINE:
        film = face_scan(portrait, challenge, seed=seed, conditions=conditions)
    else:
        film = attack_scan(FaceAttack.REPEATED, portrait, challenge, seed=seed, conditions=conditions)
    frames = sample_frames(film.data, rate_hz=8, max_frames=32, max_side=640, limits=WIDEST)
    nobody = FaceTrack((), frames.timestamps, frames.images.shape[1:3])  # loops are not looked for in faces
    found = continuity(frames, nobody)
    return Film(kind, speed, float(frames.source_timestamps[-1]), found.loop_difference)


def told(films: Sequence[Film], threshold: float) -> Table:
    """By kind and speed: how many are under the threshold."""
    table = Table("film", "speed", "seconds", "under the threshold", "least", "median", "most")
    for kind in (GENUINE, REPEATED):
        for speed in SPEEDS:
            mine = [film for film in films if film.kind == kind and film.speed == speed]
            values = np.array([film.difference for film in mine])
            low = int((values < threshold).sum())
            figures = [f"{value:.3f}" for value in (np.nanmin(values), np.nanmedian(values), np.nanmax(values))]
            seconds = float(np.median([film.seconds for film in mine]))
            table.add_row(kind, str(speed), f"{seconds:.1f}", f"{low}/{len(mine)}", *figures)
    return table


def drawn(films: Sequence[Film], threshold: float, out: Path) -> None:
    """The difference of each film over its length, as a page."""
    plot = figure(title="Stretches that come again", x_axis_label="seconds", y_axis_label="difference", width=800)
    for kind, colour in COLOURS.items():
        mine = [film for film in films if film.kind == kind]
        x, y = [film.seconds for film in mine], [film.difference for film in mine]
        plot.scatter(x, y, size=7, color=colour, alpha=0.6, legend_label=kind)
    plot.hspan(y=threshold, line_dash="dashed", line_color="#57606a")
    out.parent.mkdir(parents=True, exist_ok=True)
    save(plot, out, resources=INLINE, title="Stretches that come again")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="36000-36023", help="of the films, as first-last")
    first, last = map(int, parser.parse_args().seeds.split("-"))
    threshold = get_profile("standard").policy.checks["continuity_face"].thresholds["min_loop_difference"]
    wanted = [(k, seed, speed) for seed in range(first, last + 1) for k in (GENUINE, REPEATED) for speed in SPEEDS]
    films = [measured(*one) for one in track(wanted, description="films")]
    console = Console()
    console.print(told(films, threshold))
    console.print(f"threshold {threshold}")
    drawn(films, threshold, Path("out/loops.html"))
    console.print("drawn to out/loops.html")


if __name__ == "__main__":
    main()
