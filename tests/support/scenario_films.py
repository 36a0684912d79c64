"""Films of the synthetic people in `models.specimens.scenarios`, for tests of whole cases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from graphs.records import Step
from models.specimens.designs import DESIGN_NAMES
from models.specimens.document import make_specimen
from models.specimens.person import PORTRAITS, Holder
from models.specimens.scenarios import SCENARIOS, Scenario, film_step

SEED = 9200
MOVES = ("turn_left", "look_up")
STEPS: tuple[Step, ...] = ("front", "back", "face")
GENUINE = SCENARIOS[0]


def filmed(scenario: Scenario, step: Step, seed: int = SEED) -> bytes:
    return film_step(scenario, step, MOVES, seed=seed, today=datetime.now(UTC).date())


def holder(scenario: Scenario, seed: int) -> Holder:
    """The person named on the document in these films."""
    design = next(name for name in DESIGN_NAMES if name == scenario.design)
    portrait = next(name for name in PORTRAITS if name == scenario.portrait)
    return make_specimen(seed, design=design, portrait=portrait, today=datetime.now(UTC).date()).printed


@pytest.fixture(scope="session")
def films() -> dict[Step, bytes]:
    """The films of a genuine person, made once per session."""
    return {step: filmed(GENUINE, step) for step in STEPS}
