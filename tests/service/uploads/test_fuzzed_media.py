"""A few hundred broken and forged media through HTTP, probe, workers and checks; more of them by hand:
`python -m benchmarks.fuzzing.fuzzed_media`.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.fuzzing.fuzzed_media import Report, Watch, judge_all, send_all
from benchmarks.fuzzing.media_bases import bases
from benchmarks.fuzzing.media_mutations import mutant
from models.errors import MediaError
from models.media.decoding import MediaInfo, probe
from service.client import VeridaskClient
from service.server.local import Running
from tests.support.made_media import LIMITS
from workers.cluster import EmbeddedCluster

SEED = 9
"""No bomb is among its first files: some take half a minute to make."""


@pytest.mark.cluster
def test_no_file_hurts(server: Running, client: VeridaskClient, embedded: tuple[EmbeddedCluster, str]) -> None:
    report, quiet = Report(200, SEED), Console(quiet=True)
    processes = {"api": server.processes["api"], **embedded[0].processes}
    with Watch(processes) as watch:
        taken, full = send_all(server, report, quiet)
        judge_all(client, taken, full, report, quiet)
    assert report.broken == []
    assert watch.gone == []
    assert embedded[0].processes == {role: pid for role, pid in processes.items() if role != "api"}
    statuses = {answer.split()[0] for answer in report.answers}
    assert statuses == {"202", "413", "415", "422"}, "the files try every answer"
    assert sum(report.passed.values()) > report.files / 5, "and many get to the decoders"
    assert full, "and some to a decision"


def test_the_same_seed_makes_the_same_files() -> None:
    assert [mutant(SEED, number) for number in range(40)] == [mutant(SEED, number) for number in range(40)]
    assert len({mutant(SEED, number).data for number in range(40)}) > 35
    assert {base.mime for base in bases()} == {
        *("video/mp4", "video/quicktime", "video/webm", "image/jpeg", "image/png", "image/webp")
    }


@settings(max_examples=250, deadline=None, derandomize=True)
@given(number=st.integers(0, 299))
def test_a_probe_says_what_it_is_or_why_not(number: int) -> None:
    file = mutant(SEED, number)
    try:
        info = probe(file.data, LIMITS, file.mime)
    except MediaError:
        return
    assert isinstance(info, MediaInfo)
    assert 0 < max(info.width, info.height) <= LIMITS.max_side
    assert info.width * info.height <= LIMITS.max_pixels
    assert 0 <= info.duration_s <= LIMITS.max_seconds
    assert info.kind == file.mime.split("/")[0]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(start=st.sampled_from([base.data[:16] for base in bases()]), rest=st.binary(max_size=400))
def test_a_probe_of_any_bytes_is_a_refusal(start: bytes, rest: bytes) -> None:
    with pytest.raises(MediaError):
        probe(start + rest, LIMITS)
