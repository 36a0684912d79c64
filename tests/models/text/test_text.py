"""Text of a page, upright and upside down, with its places."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.errors import WeightsError
from models.networks import weights
from models.networks.onnx_session import session
from models.text import ppocr
from models.text import reader as text_module
from models.text.boxes import BoxFinder
from models.text.reader import Text, TextReader
from models.text.strips import StripReader

Image = npt.NDArray[np.uint8]
VALUES = {
    "UTOPIA IDENTITY CARD": (40, 75),
    "Surname": (380, 140),
    "ERIKSSON": (380, 178),
    "Given names": (380, 218),
    "ANNA MARIA": (380, 256),
    "12 AUG 1974": (380, 340),
    "L898902C3": (380, 430),
    "15.04.2032": (700, 430),
    "F": (700, 256),
}


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def page() -> Image:
    image = np.full((638, 1012, 3), (214, 224, 236), dtype=np.uint8)
    image[..., 0] += (8 * np.sin(np.arange(1012) / 9) + 8).astype(np.uint8)
    cv2.rectangle(image, (40, 140), (320, 520), (140, 120, 110), -1)
    for value, at in VALUES.items():
        label = value in ("Surname", "Given names")
        cv2.putText(image, value, at, cv2.FONT_HERSHEY_DUPLEX, 0.7 if label else 1.15, (20, 24, 34), 2, cv2.LINE_AA)
    noise = np.random.default_rng(3).normal(0, 5, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.0) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def upright(reader: TextReader) -> Text:
    return reader.read(page())


@pytest.fixture(scope="module")
def turned(reader: TextReader) -> Text:
    return reader.read(np.ascontiguousarray(page()[::-1, ::-1]))


def test_every_line_is_read_with_its_place(upright: Text) -> None:
    assert not upright.upside_down
    places = {line.text.replace(" ", ""): line.box for line in upright.lines}
    assert set(places) == {value.replace(" ", "") for value in VALUES}
    for value, (x, y) in VALUES.items():
        box = places[value.replace(" ", "")]
        assert box.shape == (4, 2)
        assert np.allclose(box[3], (x, y), atol=16), value  # reading starts at the left; text stands on y
    assert all(0.5 <= line.score <= 1.0 for line in upright.lines)


def test_upside_down_gives_the_same_lines_and_says_so(upright: Text, turned: Text) -> None:
    assert turned.upside_down
    assert {line.text for line in turned.lines} == {line.text for line in upright.lines}
    places = {line.text: line.box for line in turned.lines}
    for line in upright.lines:
        expected = np.array((1011, 637), dtype=np.float32) - line.box
        assert np.allclose(places[line.text], expected, atol=8), line.text


def test_reading_order_follows_the_text_not_the_picture(turned: Text) -> None:
    order = [line.text for line in turned.lines]
    assert order.index("Surname") < order.index("ERIKSSON") < order.index("L898902C3")


def test_a_page_without_text_has_no_lines(reader: TextReader) -> None:
    assert reader.read(np.full((638, 1012, 3), 190, dtype=np.uint8)) == Text((), upside_down=False)


def test_an_undecided_vote_is_settled_by_reading(reader: TextReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_DECISIVE", 1.1)
    assert reader.read(np.ascontiguousarray(page()[::-1, ::-1])).upside_down


def test_nothing_is_logged(reader: TextReader, capfd: pytest.CaptureFixture[str]) -> None:
    reader.read(np.zeros((64, 64, 3), dtype=np.uint8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("stage", ["detector", "direction", "recogniser"])
def test_other_weights_refuse_to_start(stage: ppocr.Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ppocr_{stage}"
    rows = {**weights.table(), name: replace(weights.table()[name], sha256="0" * 64)}
    monkeypatch.setattr(weights, "table", lambda: rows)
    with pytest.raises(WeightsError, match="on record is 0000"):
        TextReader()


def test_a_letter_that_stands_alone_beside_words_is_found() -> None:
    """The sex of a holder: the first thing that a detector of less resolution loses."""
    reader = TextReader()
    image = page()
    for sigma in (0.0, 1.2):
        blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) if sigma else image
        assert "F" in {line.text for line in reader.read(blurred).lines}, sigma


def test_a_line_from_top_to_bottom_is_read() -> None:
    turned = np.full((638, 1012, 3), 225, dtype=np.uint8)
    line = np.full((60, 400, 3), 225, dtype=np.uint8)
    cv2.putText(line, "ERIKSSON", (60, 42), cv2.FONT_HERSHEY_DUPLEX, 1.2, (20, 24, 34), 2, cv2.LINE_AA)
    turned[100:500, 480:540] = np.rot90(line, -1)
    (found,) = (box for box in BoxFinder()(turned))
    assert found[0, 0] > found[3, 0]  # begins at the top right
    (reading,) = StripReader().read(turned, found[None])
    assert reading.text == "ERIKSSON"


def test_the_lighter_recogniser_is_the_same_network() -> None:
    """With all rows and all columns it gives what the packaged one does; with fewer columns the same before softmax."""
    network = ppocr.packaged("recogniser")
    strip = np.random.default_rng(1).uniform(-1, 1, (2, 3, 48, 64)).astype(np.float32)
    whole = session(network, 1).run(None, {"x": strip})[0]
    columns = np.arange(whole.shape[-1], dtype=np.intp)
    same = session(ppocr.lighter(network, 48, columns), 1).run(None, {"x": strip})[0]
    assert np.allclose(same, whole, atol=1e-6)
    few = session(ppocr.lighter(network, 48, columns[:200]), 1).run(None, {"x": strip})[0]
    expected = whole[..., :200] / whole[..., :200].sum(axis=-1, keepdims=True)
    assert np.allclose(few, expected, atol=1e-4)
    low = session(ppocr.lighter(network, 32, columns[:200]), 1).run(None, {"x": strip[:, :, :32]})[0]
    assert low.shape == few.shape
