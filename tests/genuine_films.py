"""The films of one genuine person, synthetic specimens, for profile `recorded`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from graphs.records import Step

STEPS: tuple[Step, ...] = ("front", "back", "face")
MOVES = ("turn_left", "look_up")
SEED = 9200


@pytest.fixture(scope="session")
def films() -> dict[Step, bytes]:
    """Made once: MP4s of all steps, which together are approved."""
    from models.specimens.scenarios import SCENARIOS, film_step  # slow to import, and few files film

    return {step: film_step(SCENARIOS[0], step, MOVES, seed=SEED, today=datetime.now(UTC).date()) for step in STEPS}
