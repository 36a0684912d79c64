"""What a screen's faint traces say together: the weights of `models.liveness.screen`, fitted and held out.

    python -m benchmarks.checks.screen_traces [--seeds FIRST-LAST ...] [--living FIRST-LAST ...]

Films of specimens (synthetic) under varied conditions: of the seeds a genuine scan and a replay on a screen, of those
of `--living` a genuine scan and a recording of another challenge, which shows a living person too. Each thousand of
seeds is judged by weights that were fitted on the others. Prints the weights of all and what thresholds would do;
writes out/screen_traces.html. By default the films that the weights in use come from; about three seconds each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from bokeh.plotting import figure, save
from bokeh.resources import INLINE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.evaluation.presentation import TODAY, challenge_of, film
from graphs.local import run_here
from graphs.profile import get_profile
from graphs.records import CaseSpec
from models.liveness.screen import PassiveLiveness, evidence, screen_texture

F64 = npt.NDArray[np.float64]
SCREEN, GENUINE, RECORDING = "screen replay", "genuine face", "recording made before"
THRESHOLDS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_SHRINKING = 1e-3
"""Of weights, in units of their evidence's spread: keeps them finite where the kinds part cleanly."""


class Seen(NamedTuple):
    """A film: whether it shows a screen, its seed, what was measured."""

    screen: bool
    seed: int
    found: PassiveLiveness


def measured(kind: str, seed: int) -> Seen:
    """Film, run the nodes of a case and look for a screen."""
    spec = CaseSpec("traces", "standard", {"face": 1}, challenge_of(seed), TODAY)
    values = run_here(spec, {"face": film(kind, seed)["face"]})
    return Seen(kind == SCREEN, seed, screen_texture(values["frames_face"], values["faces_face"]))


def fitted(given: F64, screen: npt.NDArray[np.bool_]) -> F64:
    """Logistic regression, both kinds counting alike: weights of evidence (N, 3) and what is added, float64 (4,)."""
    mean, spread = given.mean(axis=0), given.std(axis=0)
    x = torch.from_numpy(np.column_stack([(given - mean) / spread, np.ones(len(given))]))
    wanted = torch.from_numpy(screen.astype(np.float64))
    shares = torch.from_numpy(np.where(screen, 0.5 / screen.sum(), 0.5 / (~screen).sum()))
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=300)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        total = entropy(x @ weights, wanted, weight=shares, reduction="sum")
        total = total + _SHRINKING * weights[:3].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy()
    scaled = found[:3] / spread
    return np.append(scaled, found[3] - scaled @ mean)


def held_out(given: F64, screen: npt.NDArray[np.bool_], blocks: npt.NDArray[np.int64]) -> F64:
    """Each film's odds by weights that were fitted on the other blocks: float64 (N,)."""
    odds = np.zeros(len(given))
    for block in np.unique(blocks):
        here = blocks == block
        weights = fitted(given[~here], screen[~here])
        odds[here] = given[here] @ weights[:3] + weights[3]
    return odds


def tell(films: Sequence[Seen], console: Console) -> None:
    """Weights, what each threshold does by odds that were held out, and a picture of them."""
    films = [one for one in films if one.found.judged]
    screen = np.array([one.screen for one in films])
    given = np.array([evidence(one.found.moire, one.found.colour_moire, one.found.quick_bands) for one in films])
    blocks = np.array([one.seed // 1000 for one in films])
    console.print("weights of quick bands, luma, colour; added:", np.round(fitted(given, screen), 2).tolist())
    odds = held_out(given, screen, blocks)
    limits = get_profile("standard").policy.checks["liveness_passive_face"].thresholds
    plain = np.array(
        [
            one.found.moire > limits["max_moire"]
            or one.found.colour_moire > limits["max_colour_moire"]
            or one.found.banding > limits["max_banding"]
            for one in films
        ]
    )
    table = Table("threshold of traces", "living refused, of traces alone", "and of any", "screens passed")
    for threshold in (*THRESHOLDS, np.inf):
        traces = odds > threshold
        living, missed = ~screen, screen & ~(plain | traces)
        counts = (int((traces & living).sum()), int(((plain | traces) & living).sum()))
        shown = (f"{count} of {int(living.sum())}" for count in counts)
        table.add_row(f"{threshold:g}", *shown, f"{int(missed.sum())} of {int(screen.sum())}")
    console.print(table)
    page = figure(title="Odds of a screen, held out, by seed", x_axis_label="seed", y_axis_label="log of odds")
    for kind, colour in ((False, "#0550ae"), (True, "#a40e26")):
        shown_kind = screen == kind
        page.scatter(
            [one.seed for one in films if one.screen == kind],
            odds[shown_kind],
            color=colour,
            legend_label=SCREEN if kind else "living",
        )
    Path("out").mkdir(exist_ok=True)
    save(page, "out/screen_traces.html", resources=INLINE, title="Traces of a screen")


def seeds_of(part: str) -> range:
    """Of first-last."""
    first, last = map(int, part.split("-"))
    return range(first, last + 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", default=["33000-33059", "35000-35059", "38000-38059"])
    parser.add_argument("--living", nargs="*", default=["31000-31039", "34000-34059", "36000-36039"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [(kind, seed) for part in arguments.seeds for seed in seeds_of(part) for kind in (GENUINE, SCREEN)]
    wanted += [(kind, seed) for part in arguments.living for seed in seeds_of(part) for kind in (GENUINE, RECORDING)]
    tell([measured(kind, seed) for kind, seed in track(wanted, "films")], Console())


if __name__ == "__main__":
    main()
