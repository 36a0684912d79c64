"""Unusual and broken pictures and videos through the real nodes.

They are refused with a code, or judged without an error and without passing as something else. Intact pictures of any
coding are decoded to the right pixels.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from graphs.records import Step
from models.errors import MediaTooLargeError
from models.media.decoding import probe, sample_frames
from models.specimens.capture import Scene, back_scene, front_scene
from models.specimens.document import Specimen, make_specimen, render_back, render_front
from tests.support.made_media import LIMITS, sample
from tests.support.node_results import TODAY, clear, codes, results

U8 = npt.NDArray[np.uint8]
ZONE = ("mrz_back", "validity_back", "consistency")
"""What rests on a machine readable zone that was read and holds."""


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    return make_specimen(610, design="azure", portrait="astronaut", today=TODAY)


@pytest.fixture(scope="module")
def photos(specimen: Specimen) -> dict[Step, U8]:
    """One photo of each side as a phone takes it: uint8 (720, 1280, 3)."""
    scenes: dict[Step, Scene] = {
        "front": front_scene(specimen, seed=610, seconds=0.5),
        "back": back_scene(specimen, seed=610, seconds=0.5),
    }
    return {step: list(scene.frames())[-1] for step, scene in scenes.items()}


def encoded(image: Image.Image | U8, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def noise(height: int, width: int) -> U8:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 4000), (4000, 3), (1, 4096), (20, 20)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_specks_and_strips_hold_no_document(height: int, width: int, kind: str) -> None:
    data = encoded(noise(height, width), kind)
    info = probe(data, LIMITS)
    assert (info.height, info.width) == (height, width)
    found = results({"front": data, "back": data})
    assert not clear(found)
    assert codes(found["quality_front"]) == codes(found["quality_back"]) == ["no_document_in_image"]


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_pictures_hold_no_document(level: int) -> None:
    data = encoded(np.full((720, 1280, 3), level, np.uint8))
    assert not clear(results({"front": data, "back": data}))


def huge_png() -> bytes:
    """Only signature and header: 20,000 × 20,000 pixels, but no pixel data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def huge_jpeg() -> bytes:
    """Start, frame header, end."""
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    frame = struct.pack(">HBHHB", 17, 8, 20_000, 20_000, 3) + components
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xd9"


@pytest.mark.parametrize("data", [huge_png(), huge_jpeg()], ids=["png", "jpeg"])
def test_a_huge_picture_is_refused_by_its_header(data: bytes) -> None:
    """Decoding would call it undecodable, because nothing follows the headers."""
    with pytest.raises(MediaTooLargeError):
        probe(data, LIMITS)
    with pytest.raises(MediaTooLargeError):
        sample_frames(data, rate_hz=1, max_frames=1, max_side=1280, limits=LIMITS)
    found = results({"front": data, "back": data})
    assert not clear(found)
    assert codes(found["quality_back"]) == ["undecodable_media"]
    assert found["quality_back"].properties["error"] == "media_too_large"


def sixteen_bits(image: U8) -> bytes:
    channels = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    _, data = cv2.imencode(".png", channels.astype(np.uint16) * 257)
    return bytes(data)


def with_alpha(image: U8) -> U8:
    """Alpha from 0 at the left to 255 at the right. It must not change the decoded pixels."""
    alpha = np.broadcast_to(np.linspace(0, 255, image.shape[1]).astype(np.uint8), image.shape[:2])
    return np.dstack([image, alpha])


def ycck_jpeg(image: U8) -> bytes:
    """CMYK the way Photoshop stores it, as luma, two colours and black: Adobe's marker says transform 2 (ITU-T T.872,
    6.5.3), and components have numbers where those of plain CMYK have letters.
    """
    luma, blue, red = Image.fromarray(image).convert("YCbCr").split()
    data = bytearray(encoded(Image.merge("CMYK", (luma, blue, red, luma.point(lambda _: 0))), "JPEG", quality=95))
    data[data.index(b"\xff\xee") + 15] = 2
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    for number in range(4):
        data[frame + 10 + 3 * number] = data[scan + 5 + 2 * number] = number + 1
    return bytes(data)


def variants(plain: U8) -> dict[str, tuple[bytes, U8, float]]:
    """By name: the file, the pixels that it holds, and the largest mean difference that its coding may cost."""
    picture = Image.fromarray(plain)
    grey = picture.convert("L")
    luma = np.asarray(grey)
    level = np.repeat(luma[..., None], 3, axis=2)
    palette, few, two = picture.quantize(256), picture.quantize(16), picture.convert("1")
    clear_first = encoded(palette, transparency=0)
    return {
        "palette": (encoded(palette), np.asarray(palette.convert("RGB")), 0),
        "palette with a transparent colour": (clear_first, np.asarray(palette.convert("RGB")), 0),
        "palette of 4 bits": (encoded(few, bits=4), np.asarray(few.convert("RGB")), 0),
        "1 bit": (encoded(two), np.asarray(two.convert("RGB")), 0),
        "RGBA, opaque": (encoded(picture.convert("RGBA")), plain, 0),
        "RGBA": (encoded(with_alpha(plain)), plain, 0),
        "grey": (encoded(grey), level, 0),
        "grey and alpha": (encoded(Image.merge("LA", (grey, grey))), level, 0),
        "16 bits": (sixteen_bits(plain), plain, 1),
        "16 bits, grey": (sixteen_bits(luma), level, 1),
        "16 bits, RGBA": (sixteen_bits(with_alpha(plain)), plain, 1),
        "grey JPEG": (encoded(grey, "JPEG", quality=95), level, 2),
        "progressive JPEG": (encoded(picture, "JPEG", quality=95, progressive=True), plain, 4),
        "CMYK JPEG": (encoded(picture.convert("CMYK"), "JPEG", quality=95), plain, 2),
        "YCCK JPEG": (ycck_jpeg(plain), plain, 2),
        "WebP, lossless with alpha": (encoded(with_alpha(plain), "WEBP", lossless=True, exact=True), plain, 0),
    }


VARIANTS = tuple(variants(np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.parametrize("name", VARIANTS)
def test_pixels_are_what_the_file_holds(name: str, specimen: Specimen) -> None:
    data, held, allowed = variants(render_back(specimen))[name]
    shown = sample(data).images[0]
    assert shown.shape == held.shape
    difference = shown.astype(np.int16) - held
    assert np.abs(difference).mean() <= allowed
    assert np.abs(difference.mean(axis=(0, 1))).max() <= min(allowed, 2), "a shift of colour, not noise of the coding"


@pytest.mark.parametrize("name", ["palette", "CMYK JPEG", "16 bits", "RGBA"])
def test_a_genuine_document_is_read_in_any_coding(name: str, photos: dict[Step, U8]) -> None:
    found = results({step: variants(photo)[name][0] for step, photo in photos.items()})
    assert {"quality_front", "quality_back", "text_front", "portrait_front", *ZONE} <= clear(found)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_followed_to_the_pixel(orientation: int, photos: dict[Step, U8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photos["back"], exif=exif)
    held = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(sample(data).images[0], held)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_document_is_read_whichever_way_it_lies(turns: int, photos: dict[Step, U8]) -> None:
    found = results({step: encoded(np.rot90(photo, turns)) for step, photo in photos.items()})
    assert {"quality_front", "quality_back", "text_front", "portrait_front", *ZONE} <= clear(found)


@pytest.mark.parametrize("flip", [np.s_[:, ::-1], np.s_[::-1]], ids=["left to right", "top to bottom"])
def test_a_mirrored_document_is_not_read(flip: Any, photos: dict[Step, U8]) -> None:
    found = results({step: encoded(photo[flip]) for step, photo in photos.items()})
    assert not clear(found) & {*ZONE, "text_front", "barcode_back"}
    assert codes(found["mrz_back"]) == ["mrz_unreadable"], "unreadable accuses nobody, a wrong check digit would"
    assert codes(found["text_front"]) == codes(found["barcode_back"]) == ["mirrored_picture"]


def test_a_mirrored_front_does_not_agree_with_its_back(photos: dict[Step, U8]) -> None:
    found = results({"front": encoded(photos["front"][:, ::-1]), "back": encoded(photos["back"])})
    assert "mrz_back" in clear(found)
    assert found["consistency"].result == "not_run"


def test_front_and_back_exchanged(photos: dict[Step, U8]) -> None:
    found = results({"front": encoded(photos["back"]), "back": encoded(photos["front"])})
    assert not clear(found) & {*ZONE, "portrait_front"}


def test_two_documents_in_one_picture(specimen: Specimen) -> None:
    """Two cards side by side on a desk, the same or different: it is unknown which one is meant."""
    cards = {"front": render_front(specimen), "back": render_back(specimen)}
    pairs: dict[Step, bytes] = {}
    for step in ("front", "back"):
        desk = np.pad(cards[step], ((80, 80), (80, 80), (0, 0)), constant_values=90)
        pairs[step] = encoded(np.hstack([desk, desk]))
    found = results(pairs)
    assert codes(found["quality_front"]) == codes(found["quality_back"]) == ["two_documents_uploaded"]
    assert not clear(found) & {"quality_front", "quality_back"}
