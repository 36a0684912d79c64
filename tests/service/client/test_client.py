"""The Python client against a real service: what it does when answers are lost or refused for a while, what it takes
for a media, and the examples of README and documentation.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from graphs.records import Step
from service.client import ProblemError, VeridaskClient
from service.server.local import LocalServer, Running
from tests.support.losing_proxy import LosingProxy
from tests.support.places import ROOT

pytestmark = pytest.mark.cluster
EXAMPLES = {"README.md": "## Use it", "docs/api.md": "## Python client"}
"""Where an example of the client stands: the page, and the heading that it follows."""


@pytest.fixture
def proxy(server: Running) -> Iterator[LosingProxy]:
    with LosingProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: LosingProxy, server: Running) -> Iterator[VeridaskClient]:
    """A client whose answers can be lost."""
    with VeridaskClient(proxy.url, server.key) as client:
        yield client


def test_a_creation_whose_answers_are_lost_makes_one_case(
    far: VeridaskClient, proxy: LosingProxy, client: VeridaskClient
) -> None:
    proxy.lose = 2
    case = far.create("recorded", client_reference_id="lost answers")
    assert proxy.lost == ["POST /v1/cases 201"] * 2
    assert [made.id for made in client.all_cases(client_reference_id="lost answers")] == [case.id]
    client.cancel(case.id)


def test_an_upload_whose_answer_is_lost_is_made_once(
    far: VeridaskClient, proxy: LosingProxy, client: VeridaskClient, video: bytes, tmp_path: Path
) -> None:
    """The film shows nothing and is soon to be taken again: sent twice, it used up two attempts."""
    file = tmp_path / "face.mp4"
    file.write_bytes(video)
    case = client.create("recorded")
    for step, media in (("front", video), ("back", file)):
        proxy.lose, proxy.method = 1, "PUT"
        after = far.upload(case.id, step, media, "video/mp4")  # type: ignore[arg-type]
        assert {s.step: s.attempts for s in after.steps}[step] == 1  # type: ignore[index]
    assert [lost.split()[-1] for lost in proxy.lost] == ["202", "202"]
    client.cancel(case.id)
    with pytest.raises(ProblemError) as closed:
        far.upload(case.id, "face", video)
    assert (closed.value.status, closed.value.code) == (409, "case_not_open")


def test_what_must_not_be_done_twice_is_not_sent_twice(
    far: VeridaskClient, proxy: LosingProxy, client: VeridaskClient, server: Running, video: bytes
) -> None:
    endpoint = client.create_webhook_endpoint("http://127.0.0.1:9/hooks")
    case = client.create("recorded")
    proxy.lose = 1
    with pytest.raises(httpx.TransportError):
        far.rotate_webhook_secret(endpoint.id)
    proxy.lose = 1
    with pytest.raises(httpx.TransportError):
        far.upload(case.id, "front", iter([video]), "video/mp4")
    assert len(proxy.lost) == 2
    client.delete_webhook_endpoint(endpoint.id)
    client.cancel(case.id)


def test_without_patience_nothing_is_tried_again(proxy: LosingProxy, server: Running) -> None:
    proxy.lose = 1
    with VeridaskClient(proxy.url, server.key, patience_s=0) as client, pytest.raises(httpx.TransportError):
        client.profiles()
    assert proxy.lose == 0


def test_who_asks_too_often_waits_as_told(cluster: str, tmp_path: Path) -> None:
    with LocalServer(tmp_path, cluster, key_rate=2) as local:
        running = local.start()
        hasty = VeridaskClient(running.url, running.key, patience_s=0)
        with hasty, pytest.raises(ProblemError) as refused:
            [hasty.profiles() for _ in range(100)]
        assert refused.value.status == 429
        assert refused.value.retry_after_s >= 1
        with VeridaskClient(running.url, running.key) as client:
            assert len([client.profiles() for _ in range(3)]) == 3


def test_all_that_can_be_a_media(client: VeridaskClient, video: bytes, tmp_path: Path) -> None:
    file = tmp_path / "front.mp4"
    file.write_bytes(video)
    case = client.create("recorded")
    client.upload(case.id, "front", file)
    with file.open("rb") as opened:
        opened.read(100)
        client.upload(case.id, "back", opened)
    halves = (video[: len(video) // 2], video[len(video) // 2 :])
    after = client.upload(case.id, "face", iter(halves), "video/mp4")
    assert {step.attempts for step in after.steps} == {1}


def test_all_cases_come_page_by_page(client: VeridaskClient) -> None:
    made = [client.create("recorded", client_reference_id="many").id for _ in range(5)]
    assert [case.id for case in client.all_cases(limit=2, client_reference_id="many")] == made[::-1]
    for case_id in made:
        client.cancel(case_id)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_of_the_documentation_run(
    page: str, server: Running, films: dict[Step, bytes], tmp_path: Path
) -> None:
    section = (ROOT / page).read_text("utf-8").split(EXAMPLES[page])[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    (tmp_path / "example.py").write_text(example[1], "utf-8")
    for step, film in films.items():
        (tmp_path / f"{step}.mp4").write_bytes(film)
    run = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VERIDASK_URL": server.url, "VERIDASK_API_KEY": server.key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("approved\n" if page == "README.md" else "approved []")
