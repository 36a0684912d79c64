"""Reads PDF417, QR Code and Data Matrix symbols in pictures, with zxing-cpp.

The payload is bytes. zxing-cpp's `text` is decoded with a guessed character set, so code that compares or parses
(`models.barcode.aamva`) must use `payload`. This module does not interpret the payload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import zxingcpp

from models.barcode.mirror import pdf417_mirrored, qr_mirrored

_FORMATS = zxingcpp.BarcodeFormats(
    [zxingcpp.BarcodeFormat.PDF417, zxingcpp.BarcodeFormat.QRCode, zxingcpp.BarcodeFormat.DataMatrix]
)
_NAMES = {
    zxingcpp.BarcodeFormat.PDF417: "PDF417",
    zxingcpp.BarcodeFormat.QRCode: "QRCode",
    zxingcpp.BarcodeFormat.DataMatrix: "DataMatrix",
}
_UPSCALED_SIDE = 2400
"""Longest side in pixels that the retry enlarges to. PDF417 wants about three pixels a module; past this size the
search costs more than 100 ms a picture."""


_LEAN = 4.0
"""Degrees of lean past which the retry levels the picture; zxing-cpp itself reads a PDF417 that leans a little."""

_View: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]
"""A treated grey picture and the affine map, float64 (2, 3), from the original's pixels to its own."""


@dataclass(frozen=True)
class Barcode:
    """One symbol. format: `PDF417`, `QRCode` or `DataMatrix`. corners: float32 (4, 2), x and y in pixels of the image
    it was read from, clockwise from the symbol's own top left; index: of that image. mirrored: whether the picture
    shows it as in a mirror; None when that cannot be told, as for every DataMatrix.
    """

    format: str
    payload: bytes
    text: str
    corners: npt.NDArray[np.float32]
    index: int
    mirrored: bool | None = None


def read(images: Sequence[npt.NDArray[np.uint8]]) -> Barcode | None:
    """The first symbol that error correction confirms, or None.

    images: uint8 (H, W, 3) RGB or (H, W), best first. A plain pass goes over all of them before any is tried again
    enlarged and with more contrast: another frame is cheaper and helps more often than another treatment. Of several
    symbols in one image a PDF417 wins, then the larger. Finding nothing costs about 0.2 s an image of 1012×638.
    """
    for treatment in (_plain, _treated):
        for index, image in enumerate(images):
            for view in treatment(_grey(image)):
                symbols = _symbols(view, index)
                if symbols:
                    return max(symbols, key=lambda s: (s.format == "PDF417", cv2.contourArea(s.corners)))
    return None


def read_all(image: npt.NDArray[np.uint8], index: int = 0) -> tuple[Barcode, ...]:
    """Every symbol of one image, top to bottom; the treatments of `read` until one of them shows any."""
    grey = _grey(image)
    for treatment in (_plain, _treated):
        for view in treatment(grey):
            symbols = _symbols(view, index)
            if symbols:
                return tuple(sorted(symbols, key=lambda s: float(s.corners[:, 1].min())))
    return ()


def _grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _plain(grey: npt.NDArray[np.uint8]) -> Iterator[_View]:
    yield grey, np.eye(2, 3)


def _treated(grey: npt.NDArray[np.uint8]) -> Iterator[_View]:
    """Levelled when its lines lean; enlarged (up to three times); enlarged, contrast evened out, edges sharpened."""
    lean = _lean(grey)
    if abs(lean) > _LEAN:
        yield _turned(grey, lean)
    scale = min(3.0, max(1.0, _UPSCALED_SIDE / max(grey.shape)))
    zoom = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    if scale > 1.0:
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        yield grey, zoom
    even = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(grey)
    sharp = cv2.addWeighted(even, 2.0, cv2.GaussianBlur(even, (0, 0), 2.0 * scale), -1.0, 0.0)
    yield np.asarray(sharp, dtype=np.uint8), zoom


def _lean(grey: npt.NDArray[np.uint8]) -> float:
    """Degrees, -45..45, that the picture's strong edges lean from level, from the mean direction of the gradient taken
    four-fold (edges at right angles to one another agree), weighted by its square.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5).astype(np.float32)
    along = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) + 1j * cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    weight = np.maximum(np.abs(along), 1e-6)
    return float(np.degrees(np.angle(np.sum((along / weight) ** 4 * weight**2))) / 4)


def _turned(grey: npt.NDArray[np.uint8], degrees: float) -> _View:
    """The picture turned so that what leaned by `degrees` is level, on a canvas that holds all of it."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    wide = int(abs(turn[0, 0]) * width + abs(turn[0, 1]) * height) + 1
    high = int(abs(turn[0, 1]) * width + abs(turn[0, 0]) * height) + 1
    turn[:, 2] += ((wide - width) / 2, (high - height) / 2)
    level = cv2.warpAffine(grey, turn, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(level, dtype=np.uint8), np.asarray(turn, dtype=np.float64)


def _symbols(view: _View, index: int) -> list[Barcode]:
    grey, matrix = view
    back = cv2.invertAffineTransform(matrix)
    found = zxingcpp.read_barcodes(np.ascontiguousarray(grey), formats=_FORMATS, text_mode=zxingcpp.TextMode.Plain)
    symbols = []
    for symbol in found:
        if symbol.valid:
            p = symbol.position
            points = [(q.x, q.y, 1.0) for q in (p.top_left, p.top_right, p.bottom_right, p.bottom_left)]
            corners = (np.array(points) @ back.T).astype(np.float32)
            name = _NAMES.get(symbol.format, str(symbol.format))
            seen = np.array(points, np.float32)[:, :2]
            symbols.append(
                Barcode(name, bytes(symbol.bytes), symbol.text, corners, index, _mirrored(symbol, name, grey, seen))
            )
    return symbols


def _mirrored(
    symbol: zxingcpp.Barcode, name: str, grey: npt.NDArray[np.uint8], corners: npt.NDArray[np.float32]
) -> bool | None:
    if name == "PDF417":
        return pdf417_mirrored(grey, corners)
    if name == "QRCode":
        return qr_mirrored(np.array(symbol.to_image(scale=1, add_quiet_zones=False), np.uint8))
    return None
