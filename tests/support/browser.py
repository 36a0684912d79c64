"""A person's device: Debian's Chromium, headless, whose camera shows a film. Tests skip if it is not installed.

A device collects errors that the server cannot see: script errors, console messages, requests to other hosts.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import av
import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_MS = 60_000
"""Longest wait for a page to show something; long, because the cluster may be busy."""


@dataclass
class Device:
    """An open page, and the errors collected on it."""

    page: Page
    context: BrowserContext
    host: str
    wrong: list[str] = field(default_factory=list)

    def opened(self, link: str) -> None:
        """Open a link. From now on, requests to any other host count as errors."""
        self.host = urlsplit(link).netloc
        self.page.goto(link)

    def waits_for(self, heading: str) -> None:
        """Wait until a screen with this heading is shown."""
        self.page.get_by_role("heading", name=heading, exact=True).wait_for(timeout=_MS)

    def films(self) -> None:
        """Press the button, wait until the film is recorded, and send it."""
        self.page.get_by_role("button", name="Film", exact=True).click()
        self.waits_for("Check your recording")
        self.page.get_by_role("button", name="Send", exact=True).click()

    def chooses(self, *files: Path) -> None:
        """Choose files instead of filming, and send them."""
        self.page.set_input_files("#file", files)
        self.waits_for("Check your recording")
        self.page.get_by_role("button", name="Send", exact=True).click()


@contextmanager
def device(film: Path | None = None, *, camera: bool = True, dark: bool = False) -> Iterator[Device]:
    """A phone held upright. film: what its camera shows, as written by `filmed`, in a loop; by default Chromium's test
    picture. camera: whether pages may use the camera.
    """
    assert CHROMIUM is not None
    flags = ["--use-fake-device-for-media-stream"] if camera else []
    flags += [f"--use-file-for-fake-video-capture={film}"] if film else []
    with sync_playwright() as play, play.chromium.launch(executable_path=CHROMIUM, args=[*_QUIET, *flags]) as chromium:
        context = chromium.new_context(
            viewport={"width": 390, "height": 844},
            color_scheme="dark" if dark else "light",
            permissions=["camera"] if camera else [],
        )
        mine = Device(context.new_page(), context, "")

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                mine.wrong.append(f"console: {message.text}")

        def asked(request: Request) -> None:
            url = urlsplit(request.url)
            if url.scheme in ("http", "https") and url.netloc != mine.host:
                mine.wrong.append(f"asked {url.netloc}")

        mine.page.on("pageerror", lambda error: mine.wrong.append(f"script: {error}"))
        mine.page.on("console", said)
        mine.page.on("request", asked)
        yield mine


def filmed(film: bytes, path: Path) -> Path:
    """Write a film for the camera, as uncompressed Y4M at 30 frames a second."""
    with av.open(io.BytesIO(film), "r") as media, path.open("wb") as out:
        (stream,) = media.streams.video
        rate = float(stream.average_rate or 30)
        shown = 0
        for number, frame in enumerate(media.decode(stream)):
            if not shown:
                out.write(f"YUV4MPEG2 W{frame.width} H{frame.height} F30:1 Ip A1:1 C420jpeg\n".encode())
            until = round((number + 1) / rate * 30)
            raw = b"FRAME\n" + frame.reformat(format="yuv420p").to_ndarray().tobytes()
            for _ in range(until - shown):
                out.write(raw)
            shown = until
    return path
