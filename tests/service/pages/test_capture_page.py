"""The capture page in a real browser, on cases of the running service; and the links that lead there."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from pydantic import ValidationError
from starlette.requests import Request

from models.liveness.challenge import Challenge
from models.specimens.capture import back_scene, front_scene, record
from models.specimens.document import make_specimen
from models.specimens.face_scan import FaceConditions, face_scan
from service.client import VeridaskClient
from service.crypto.client_secrets import Secrets, service_key
from service.pages.capture.page import FOLDER, capture_url
from service.schemas.cases import CreatedView
from service.server.local import Running
from tests.support.browser import Device, device, filmed, needs_browser
from tests.support.cutting_proxy import CuttingProxy
from tests.support.data_folders import settings_in
from tests.support.pages import Page

pytestmark = pytest.mark.cluster

TITLES = ("Front of your ID card", "Back of your ID card", "Your face")
MOVES = {
    "turn_left": "← Turn your head to the left",
    "turn_right": "Turn your head to the right →",
    "look_up": "↑ Look up",
    "look_down": "↓ Look down",
    "move_closer": "Move closer to the camera",
}


def sandbox(client: VeridaskClient, marker: str = "approved") -> CreatedView:
    return client.create("sandbox", metadata={"sandbox": marker})


def begins(phone: Device, case: CreatedView, at: str = "") -> None:
    """Open the case's link, at another origin if one is named, and press the button."""
    assert case.capture_url is not None
    phone.opened(re.sub(r"^http://[^/]+", at, case.capture_url) if at else case.capture_url)
    phone.page.get_by_role("button", name="Start").click()


@pytest.fixture(scope="module")
def film(video: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    path.write_bytes(video)
    return path


@needs_browser
def test_a_person_films_front_back_and_face(client: VeridaskClient) -> None:
    case = sandbox(client)
    with device() as phone:
        begins(phone, case)
        said: list[str] = []
        phone.page.expose_function("said", lambda words: said.append(words))
        phone.page.evaluate("""new MutationObserver(() => said(document.querySelector("#prompt").textContent))
            .observe(document.querySelector("#prompt"), {childList: true})""")
        for title in TITLES:
            phone.waits_for(title)
            phone.films()
        phone.waits_for("Done")
        assert phone.wrong == []
    case_now = client.case(case.id)
    assert (case_now.status, case_now.decision and case_now.decision.outcome) == ("completed", "approved")
    assert [words for words in said if words in MOVES.values()] == [MOVES[move] for move in case.challenge]


@needs_browser
@pytest.mark.vision
@pytest.mark.timeout(300)
def test_what_the_browser_records_is_good_enough_for_every_check(client: VeridaskClient, tmp_path: Path) -> None:
    """Camera, browser's recorder, upload, real checks: three devices in turn, each with a film before its camera."""
    case = client.create("standard")
    specimen = make_specimen(9201, design="azure", portrait="astronaut", today=datetime.now(UTC).date())
    challenge, slowly = Challenge.from_list(case.challenge), FaceConditions(tempo=0.36)
    seen = (
        record(front_scene(specimen, seed=9201, seconds=6.0)).data,
        record(back_scene(specimen, seed=9201, seconds=5.0)).data,
        face_scan("astronaut", challenge, seed=9201, conditions=slowly).data,
    )
    for number, (title, shown) in enumerate(zip(TITLES, seen, strict=True)):
        with device(filmed(shown, tmp_path / f"{number}.y4m")) as phone:
            begins(phone, case)
            phone.waits_for(title)
            phone.films()
            phone.waits_for((*TITLES, "Checking")[number + 1])
            assert phone.wrong == []
    decided = client.decided(case.id)
    clear = {check.name for check in decided.checks if check.result == "clear"}
    # The face's film may begin again within the recording, which is what a loop is; all else is as in a film itself.
    assert clear >= {
        "quality_front", "quality_back", "quality_face", "text_front", "hologram_front", "recapture_front",
        "recapture_back", "mrz_back", "barcode_back", "consistency", "match", "liveness_geometric_face",
    }  # fmt: skip


@needs_browser
def test_a_step_is_asked_for_again_with_its_reason(client: VeridaskClient, film: Path) -> None:
    case = sandbox(client, "blurred_photo@quality_back")
    with device(camera=False) as phone:
        begins(phone, case)
        for title in TITLES:
            phone.waits_for(title)
            phone.page.get_by_text("The camera cannot be used.").wait_for()
            assert not phone.page.get_by_role("button", name="Film", exact=True).is_visible()
            phone.chooses(film)
        phone.waits_for("Back of your ID card")
        assert phone.page.get_by_text("The picture is blurred.").is_visible()
        phone.chooses(film)
        phone.waits_for("Done")
        assert phone.wrong == []
    assert [step.attempts for step in client.case(case.id).steps] == [1, 2, 1]


@needs_browser
def test_media_that_is_refused_is_chosen_again(client: VeridaskClient, film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film at all" * 100)
    with device() as phone:
        begins(phone, sandbox(client))
        phone.waits_for(TITLES[0])
        phone.chooses(broken)  # while the camera is being opened: a choice then was lost once
        phone.waits_for(TITLES[0])
        assert phone.page.locator("#film-notice").inner_text()
        phone.wrong.clear()  # the browser's own line about an answer of 422 or 415
        phone.chooses(film)
        phone.waits_for(TITLES[1])
        assert not phone.page.locator("#film-notice").is_visible()
        assert phone.wrong == []


@needs_browser
def test_a_picture_is_looked_at_where_the_profile_takes_pictures(
    client: VeridaskClient, picture: bytes, tmp_path: Path
) -> None:
    """The page's own policy kept the picture from being shown."""
    path = tmp_path / "front.jpg"
    path.write_bytes(picture)
    with device() as phone:
        begins(phone, client.create("document"))
        phone.waits_for(TITLES[0])
        assert not phone.page.get_by_role("button", name="Film", exact=True).is_visible()
        phone.page.set_input_files("#file", path)
        phone.waits_for("Check your recording")
        still = phone.page.get_by_role("img", name="Your picture")
        still.wait_for()
        assert still.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        phone.page.get_by_role("button", name="Send", exact=True).click()
        phone.waits_for(TITLES[1])
        assert phone.wrong == []


@needs_browser
def test_an_upload_that_is_cut_off_goes_on(server: Running, client: VeridaskClient, tmp_path: Path) -> None:
    """The connection is reset twice amid a film; what has arrived is not sent again, and the film is whole."""
    media = tmp_path / "long.mp4"
    media.write_bytes(padded(8 * 1024 * 1024))
    case = sandbox(client)
    port = int(server.url.rpartition(":")[2])
    with CuttingProxy(port, [2 * 1024 * 1024, 3 * 1024 * 1024]) as proxy, device() as phone:
        begins(phone, case, proxy.url)
        phone.waits_for(TITLES[0])
        phone.chooses(media)
        phone.waits_for(TITLES[1])
        assert proxy.cuts == []
    [upload] = evidence(server, case.id)
    assert upload["sha256"] == hashlib.sha256(media.read_bytes()).hexdigest()


def padded(size: int) -> bytes:
    """A film with a box at its end that holds nothing: as long as is wanted, and not to be compressed."""
    from tests.support.small_media import encode

    film = encode("mp4", "libx264", frames=10)
    return film + size.to_bytes(4, "big") + b"free" + bytes(size - 8)


def evidence(server: Running, case_id: str) -> list[dict[str, str]]:
    url, headers = f"{server.url}/v1/cases/{case_id}/evidence", {"Authorization": f"Bearer {server.key}"}
    found: list[dict[str, str]] = httpx.get(url, headers=headers).raise_for_status().json()
    return found


@needs_browser
def test_each_end_of_a_case_is_told(client: VeridaskClient, film: Path) -> None:
    """Also to who opens the link again later, and after the tab was loaded again."""
    ends = {"declined": "Not verified", "review": "Thank you", "approved": "Done"}
    with device() as phone:
        for outcome, heading in ends.items():
            case = sandbox(client, outcome)
            for step in ("front", "back", "face"):
                client.upload(case.id, step, film)
            client.decided(case.id)
            phone.opened(case.capture_url or "")
            phone.waits_for(heading)
            phone.page.reload()
            phone.waits_for(heading)
        canceled = sandbox(client)
        client.cancel(canceled.id)
        phone.opened(canceled.capture_url or "")
        phone.waits_for("Closed")
        assert phone.wrong == []


@needs_browser
def test_a_link_that_opens_nothing(server: Running, client: VeridaskClient, server_folder: Path) -> None:
    case = sandbox(client)
    over = Secrets(service_key(server_folder)).of(case.id, datetime.now(UTC) - timedelta(minutes=1))
    with device() as phone:
        phone.opened(f"{server.url}/capture/")
        phone.waits_for("This link is not complete")
        phone.page.goto(f"{server.url}/capture/#{case.id}/<img src=x onerror=alert(1)>")
        phone.waits_for("This link is not complete")
        phone.page.goto(f"{server.url}/capture/#{case.id}/{over}")
        phone.waits_for("This link has expired")


@needs_browser
def test_the_secret_stays_on_the_device(
    server: Running, client: VeridaskClient, server_folder: Path, film: Path
) -> None:
    case = sandbox(client)
    asked: list[str] = []
    with device() as phone:
        phone.page.on("request", lambda request: asked.append(request.url))
        begins(phone, case)
        phone.waits_for(TITLES[0])
        assert "#" not in phone.page.evaluate("location.href")
        phone.chooses(film)
        phone.waits_for(TITLES[1])
        phone.page.reload()
        phone.waits_for("Verify your identity")
    # The address that was opened comes up as a request of its own in the driver, with the fragment that no server sees.
    assert not [url for url in asked if case.client_secret in url.partition("#")[0]]
    assert case.client_secret not in (server_folder / "server.log").read_text("utf-8")


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_everybody_can_read_every_screen(client: VeridaskClient, film: Path, dark: bool) -> None:
    """axe-core's rules, among them contrast, names of what is pressed, and order of headings."""
    case = sandbox(client, "blurred_photo@quality_face")
    with device(dark=dark) as phone:

        def seen(heading: str) -> None:
            phone.waits_for(heading)
            found = Axe().run(phone.page)
            assert found.violations_count == 0, found.generate_report()
            # Whoever does not see the page hears what it shows now.
            assert phone.page.evaluate("document.activeElement.textContent") == heading

        assert case.capture_url is not None
        phone.opened(case.capture_url)
        seen("Verify your identity")
        phone.page.get_by_role("button", name="Start").click()
        for title in (*TITLES, TITLES[2]):  # at last with a reason
            seen(title)
            phone.page.set_input_files("#file", film)
            seen("Check your recording")
            phone.page.get_by_role("button", name="Send", exact=True).click()
        seen("Done")


def test_the_page_asks_and_runs_nothing_but_its_own(server: Running) -> None:
    answer = httpx.get(f"{server.url}/capture/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    page = Page(answer.text)
    assert page.wrong == []
    assert {tag.get("src") for tag in page.of("script")} == {"capture.js"}
    for path in FOLDER.iterdir():
        part = httpx.get(f"{server.url}/capture/{path.name}")
        assert part.content == path.read_bytes()
        assert part.headers["Content-Security-Policy"] == policy


@pytest.mark.parametrize("name", ["..%2f..%2fsettings.py", "nothing.js", "%00", "capture.js/", ".."])
def test_nothing_else_lies_there(server: Running, name: str) -> None:
    assert httpx.get(f"{server.url}/capture/{name}").status_code == 404


def request_to(host: str) -> Request:
    headers = [(b"host", host.encode())]
    return Request({"type": "http", "scheme": "http", "path": "/v1/cases", "server": None, "headers": headers})


def test_a_link_leads_where_the_operator_says(server: Running) -> None:
    """A host that only the request names would choose where the secret goes."""
    end = "/capture/#case_x/secret_y"
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        assert capture_url(request_to(host), "", "case_x", "secret_y") == f"http://{host}{end}"
    assert capture_url(request_to("evil.example"), "", "case_x", "secret_y") is None
    mine = "https://verify.example"
    assert capture_url(request_to("evil.example"), mine, "case_x", "secret_y") == mine + end
    headers = {"Authorization": f"Bearer {server.key}", "Host": "evil.example"}
    made = httpx.post(f"{server.url}/v1/cases", json={"profile": "sandbox"}, headers=headers).raise_for_status()
    assert made.json()["capture_url"] is None


def test_another_secret_comes_with_a_link(client: VeridaskClient) -> None:
    case = sandbox(client)
    again = client.client_secret(case.id)
    assert again.capture_url is not None
    assert again.capture_url.endswith(f"/capture/#{case.id}/{again.client_secret}")


@pytest.mark.parametrize("origin", ["http://verify.example", "https://verify.example/", "verify.example", "*"])
def test_an_origin_that_is_unsafe_refuses_to_start(tmp_path: Path, origin: str) -> None:
    with pytest.raises(ValidationError, match="VERIDASK_PUBLIC_ORIGIN"):
        settings_in(tmp_path, public_origin=origin)
