"""Symbols made by zxing-cpp's own writer, then turned, blurred, lit and shrunk."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp

from models.barcode.symbols import read, read_all

PAYLOAD = bytes(range(256)) + b"@\n\x1e\rANSI 636000"
Image = npt.NDArray[np.uint8]


def symbol(content: bytes | str, fmt: zxingcpp.BarcodeFormat = zxingcpp.BarcodeFormat.PDF417, scale: int = 4) -> Image:
    return np.asarray(zxingcpp.create_barcode(content, fmt).to_image(scale=scale), dtype=np.uint8)


def on_page(code: Image, at: tuple[int, int] = (60, 80), size: tuple[int, int] = (1012, 638)) -> Image:
    """The symbol on a grey gradient page, RGB."""
    width, height = size
    page = np.tile(np.linspace(150, 220, width).astype(np.uint8), (height, 1))
    x, y = at
    page[y : y + code.shape[0], x : x + code.shape[1]] = np.minimum(code, 235)
    return np.repeat(page[..., None], 3, axis=2)


def test_the_bytes_come_back_exactly() -> None:
    found = read([on_page(symbol(PAYLOAD, scale=2))])
    assert found is not None
    assert (found.format, found.payload, found.index) == ("PDF417", PAYLOAD, 0)


@pytest.mark.parametrize(
    ("fmt", "name"),
    [
        (zxingcpp.BarcodeFormat.PDF417, "PDF417"),
        (zxingcpp.BarcodeFormat.QRCode, "QRCode"),
        (zxingcpp.BarcodeFormat.DataMatrix, "DataMatrix"),
    ],
)
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_each_format_in_each_direction(fmt: zxingcpp.BarcodeFormat, name: str, turn: int) -> None:
    page = on_page(symbol("veridask specimen", fmt))
    found = read([np.ascontiguousarray(np.rot90(page, turn))])
    assert found is not None
    assert (found.format, found.payload) == (name, b"veridask specimen")


def test_corners_are_where_the_symbol_is_also_after_enlarging() -> None:
    code = symbol("corners", scale=4)
    page = on_page(code, at=(100, 200))
    small = cv2.resize(page, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    for image, factor in ((page, 1.0), (np.asarray(small, dtype=np.uint8), 0.25)):
        found = read([image])
        assert found is not None
        left, top = found.corners.min(axis=0)
        right, bottom = found.corners.max(axis=0)
        tolerance = 20 * factor + 4  # the quiet zone of the writer
        expected = (100, 200, 100 + code.shape[1], 200 + code.shape[0])
        assert np.allclose((left, top, right, bottom), tuple(e * factor for e in expected), atol=tolerance)


@pytest.mark.parametrize("degrees", [-38.0, -20.0, 12.0, 31.0, 45.0])
def test_a_leaning_symbol_is_levelled(degrees: float) -> None:
    bare = symbol("leaning specimen", scale=3)
    code = np.asarray(cv2.copyMakeBorder(bare, 200, 200, 200, 200, cv2.BORDER_CONSTANT, value=235), dtype=np.uint8)
    height, width = code.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    leaning = np.asarray(cv2.warpAffine(code, turn, (width, height), borderValue=235.0), dtype=np.uint8)
    found = read([leaning])
    assert found is not None
    assert found.payload == b"leaning specimen"
    assert np.allclose(found.corners.mean(axis=0), (width / 2, height / 2), atol=6)


def test_the_second_image_is_used_when_the_first_shows_nothing() -> None:
    blank = np.full((300, 500, 3), 200, dtype=np.uint8)
    found = read([blank, on_page(symbol("second"))])
    assert found is not None
    assert (found.index, found.payload) == (1, b"second")


def test_a_small_symbol_needs_the_retry() -> None:
    """At 1.12 px a module the plain pass misses it; enlarged it is read."""
    page = cv2.GaussianBlur(on_page(symbol("A" * 60, scale=4)), (0, 0), 1.4)
    small = np.asarray(cv2.resize(page, None, fx=0.28, fy=0.28, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    assert not zxingcpp.read_barcodes(small, formats=zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.PDF417]))
    found = read([small])
    assert found is not None
    assert found.payload == b"A" * 60


def test_blur_noise_and_uneven_light() -> None:
    rng = np.random.default_rng(5)
    page = on_page(symbol(PAYLOAD[:80], scale=3))
    lit = page * np.linspace(0.35, 1.0, page.shape[1])[None, :, None]
    noisy = cv2.GaussianBlur(lit, (0, 0), 1.1) + rng.normal(0, 5, page.shape)
    found = read([np.clip(noisy, 0, 255).astype(np.uint8)])
    assert found is not None
    assert found.payload == PAYLOAD[:80]


def test_a_pdf417_wins_over_a_larger_qr_code_on_the_same_page() -> None:
    page = on_page(symbol("licence", scale=3), at=(40, 40))
    code = symbol("link", zxingcpp.BarcodeFormat.QRCode, scale=10)
    page[300 : 300 + code.shape[0], 500 : 500 + code.shape[1]] = np.minimum(code, 235)[..., None]
    found = read([page])
    assert found is not None
    assert found.payload == b"licence"
    assert [b.format for b in read_all(page)] == ["PDF417", "QRCode"]


def test_nothing_is_found_in_nothing() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    assert read([]) is None
    assert read([noise, np.zeros((200, 300), dtype=np.uint8)]) is None
    assert read_all(noise) == ()
