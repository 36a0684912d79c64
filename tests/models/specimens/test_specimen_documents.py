"""The specimens of documents: they say what they should, machines can read them, and attacks differ as attacks do."""

from __future__ import annotations

import io
import random
from datetime import date

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp
from rapidocr import RapidOCR
from rapidocr.ch_ppocr_rec.typings import TextRecOutput

from models.barcode import aamva
from models.mrz.check_digits import matches
from models.page.quad import ID1_SIZE
from models.specimens.attacks import DocumentAttack, tampered
from models.specimens.capture import Scene, back_scene, front_scene, photo, record
from models.specimens.conditions import USUAL, DocumentConditions
from models.specimens.display import Display
from models.specimens.document import Specimen, aamva_payload, make_specimen, render_back, render_front
from models.specimens.forgery import portrait_replaced, text_edited
from models.specimens.glyphs import MRZ_ALPHABET, PITCH_MM, mrz_ink
from models.specimens.security import variable_elements
from models.specimens.video import encode_mp4

TODAY = date(2026, 5, 4)
Image3 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def azure() -> Specimen:
    return make_specimen(301, design="azure", portrait="astronaut", today=TODAY)


@pytest.fixture(scope="module")
def ochre() -> Specimen:
    return make_specimen(302, design="ochre", portrait="grace_hopper", today=TODAY)


def level_view(frame: Image3, quad: npt.NDArray[np.float32]) -> Image3:
    """The card cut out of a frame by its true corners."""
    w, h = ID1_SIZE
    edges = np.array([[-0.5, -0.5], [w - 0.5, -0.5], [w - 0.5, h - 0.5], [-0.5, h - 0.5]], np.float32)
    warp = cv2.getPerspectiveTransform(quad, edges)
    return np.asarray(cv2.warpPerspective(frame, warp, ID1_SIZE, flags=cv2.INTER_CUBIC), np.uint8)


def views(scene: Scene) -> list[Image3]:
    return [level_view(frame, quads[0]) for frame, quads in zip(scene.frames(), scene.quads(), strict=True)]


def check_digits_hold(mrz: tuple[str, str, str]) -> list[bool]:
    first, second, _ = mrz
    composite = first[5:] + second[:7] + second[8:15] + second[18:29]
    return [
        matches(first[5:14], first[14]),
        matches(second[:6], second[6]),
        matches(second[8:14], second[14]),
        matches(composite, second[29]),
    ]


def test_the_face_has_one_shape_for_each_character_of_the_alphabet() -> None:
    assert len(MRZ_ALPHABET) == 37
    shapes = [mrz_ink((c,), pixels_per_mm=10, line_spacing_mm=6) for c in MRZ_ALPHABET]
    assert {s.shape for s in shapes} == {(60, round(2 * PITCH_MM * 10))}
    for i, a in enumerate(shapes):
        for b in shapes[:i]:
            assert float(np.abs(a - b).sum()) > 8.0  # pixels of ink: the closest pair, O and 0, differs by more
    with pytest.raises(KeyError):
        mrz_ink(("a",), pixels_per_mm=10, line_spacing_mm=6)


def test_a_general_recogniser_reads_the_machine_readable_zone_but_for_o_and_zero() -> None:
    recogniser = RapidOCR(params={"Global.log_level": "critical"})
    lines = ("I<UTOMX03745646<<<<<<<<<<<<<<<", "ABCDEFGHIJKLMNPQRSTUVWXYZ<1234", "56789<8B5S2Z1I6GKXVYWMNHCE<<<7")
    paper = 250 - 225 * mrz_ink(lines, pixels_per_mm=11.8, line_spacing_mm=6.35)
    picture = np.repeat(cv2.GaussianBlur(paper, (0, 0), 0.8).astype(np.uint8)[..., None], 3, axis=2)
    for index, line in enumerate(lines):
        row = picture[index * 75 : (index + 1) * 75]
        result = recogniser(row, use_det=False, use_cls=False, use_rec=True)
        assert isinstance(result, TextRecOutput)
        assert result.txts is not None
        assert result.txts[0].replace("O", "0") == line.replace("O", "0")


def test_a_genuine_document_agrees_with_itself(azure: Specimen, ochre: Specimen) -> None:
    for specimen in (azure, ochre):
        holder = specimen.printed
        assert specimen.encoded == holder
        assert all(check_digits_hold(specimen.mrz))
        assert holder.number == specimen.mrz[0][5:14].rstrip("<")
        assert holder.birth_date.strftime("%y%m%d") == specimen.mrz[1][:6]
        assert holder.issue_date < TODAY < holder.expiry_date
        document = aamva.parse(aamva_payload(holder))
        assert document.damage == ()
        assert (document.surname, document.number) == (holder.surname, holder.number)
        assert (document.birth_date, document.expiry_date) == (holder.birth_date, holder.expiry_date)
    assert azure.printed.number != ochre.printed.number


def test_the_same_seed_gives_the_same_pictures(azure: Specimen) -> None:
    again = make_specimen(301, design="azure", portrait="astronaut", today=TODAY)
    assert again == azure
    assert render_front(again).shape == (ID1_SIZE[1], ID1_SIZE[0], 3)
    np.testing.assert_array_equal(render_front(again), render_front(azure))
    np.testing.assert_array_equal(render_back(again), render_back(azure))
    first, second = (front_scene(azure, seed=5, seconds=0.2) for _ in range(2))
    other = front_scene(azure, seed=6, seconds=0.2)
    for a, b, c in zip(first.frames(), second.frames(), other.frames(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    for a, b in zip(first.frames(), first.frames(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_true_corners_cut_out_the_card(azure: Specimen, ochre: Specimen) -> None:
    for specimen, seed in ((azure, 7), (ochre, 8)):
        printed = cv2.cvtColor(render_back(specimen), cv2.COLOR_RGB2GRAY).astype(np.float64)
        scene = back_scene(specimen, seed=seed, seconds=0.3)
        quads = scene.quads()
        assert quads.shape == (round(0.3 * USUAL.frame_rate), 1, 4, 2)
        assert quads.min() > 0
        assert np.all(quads < np.array(USUAL.size))
        shown = cv2.cvtColor(views(scene)[-1], cv2.COLOR_RGB2GRAY).astype(np.float64)
        # Barcode and machine readable zone: one pixel aside, the likeness falls below this.
        area = (slice(160, 620), slice(60, 950))
        likeness = np.corrcoef(printed[area].ravel(), shown[area].ravel())[0, 1]
        aside = np.corrcoef(printed[area].ravel(), np.roll(shown, 2, axis=1)[area].ravel())[0, 1]
        assert likeness > 0.93
        assert likeness > aside + 0.03


def test_the_film_is_h264_with_even_timestamps_and_its_barcode_reads(ochre: Specimen) -> None:
    capture = record(back_scene(ochre, seed=9, seconds=0.8))
    with av.open(io.BytesIO(capture.data)) as container:
        assert isinstance(container, av.container.InputContainer)
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", *USUAL.size)
        frames = [(float(f.time), np.asarray(f.to_ndarray(format="rgb24"), np.uint8)) for f in container.decode(stream)]
    count = round(0.8 * USUAL.frame_rate)
    assert len(frames) == len(capture.quads) == len(capture.tilts) == count
    np.testing.assert_allclose([t for t, _ in frames], np.arange(count) / USUAL.frame_rate, atol=1e-3)
    read = [zxingcpp.read_barcodes(level_view(f, q[0])) for (_, f), q in zip(frames, capture.quads, strict=True)]
    payload = aamva_payload(ochre.encoded)
    assert sum(any(code.bytes == payload for code in codes) for codes in read) >= 0.8 * count


def hue_travel(scene: Scene, specimen: Specimen) -> float:
    """How far the colour of the variable elements moves over a film: mean distance in the a, b plane of CIELAB."""
    index = variable_elements(specimen.design).index[::7]
    lab = [cv2.cvtColor(cv2.blur(v, (5, 5)), cv2.COLOR_RGB2LAB).reshape(-1, 3)[index, 1:] for v in views(scene)[::7]]
    return float(np.stack(lab).astype(np.float64).std(axis=0).mean())


def test_colours_of_the_variable_elements_move_only_on_the_genuine_card(azure: Specimen) -> None:
    genuine = hue_travel(front_scene(azure, seed=21, seconds=1.2), azure)
    for attack in (DocumentAttack.GREY_COPY, DocumentAttack.COLOUR_COPY):
        assert genuine > 3 * hue_travel(front_scene(azure, seed=21, attack=attack, seconds=1.2), azure)


def test_a_grey_copy_has_no_colour_and_a_screen_shows_its_grid(azure: Specimen) -> None:
    def last_view(attack: DocumentAttack | None) -> Image3:
        return views(front_scene(azure, seed=31, attack=attack, seconds=0.5))[-1]

    def chroma(picture: Image3) -> float:
        lab = cv2.cvtColor(cv2.blur(picture, (9, 9)), cv2.COLOR_RGB2LAB).astype(np.float64)
        return float(np.hypot(lab[..., 1] - np.median(lab[..., 1]), lab[..., 2] - np.median(lab[..., 2])).mean())

    def fine_colour(picture: Image3) -> float:
        flat = picture[24:84, 310:560].astype(
            np.float32
        )  # the band between title and subtitle: nothing is printed there
        difference = flat[..., 2] - flat[..., 0]
        return float((difference - cv2.blur(difference, (9, 9))).std())

    genuine = last_view(None)
    assert chroma(last_view(DocumentAttack.GREY_COPY)) < 0.2 * chroma(genuine)
    assert fine_colour(last_view(DocumentAttack.PHOTO_OF_SCREEN)) > 2 * fine_colour(genuine)


def test_a_blurred_back_cannot_be_read(azure: Specimen) -> None:
    def sharpness(attack: DocumentAttack | None) -> float:
        shown = views(back_scene(azure, seed=41, attack=attack, seconds=0.6))[-1]
        assert bool(zxingcpp.read_barcodes(shown)) == (attack is None)
        return float(cv2.Laplacian(cv2.blur(shown, (3, 3)), cv2.CV_64F).var())

    assert sharpness(None) > 20 * sharpness(DocumentAttack.BLURRED)


@pytest.mark.parametrize("seed", range(301, 309))
def test_altered_documents_contradict_themselves(seed: int) -> None:
    genuine = make_specimen(seed, design="azure", portrait="astronaut", today=TODAY)
    mrz = tampered(genuine, DocumentAttack.ALTERED_MRZ)
    assert check_digits_hold(mrz.mrz) == [True, False, True, False]
    assert sum(a != b for a, b in zip("".join(mrz.mrz), "".join(genuine.mrz), strict=True)) == 1
    assert mrz.printed == genuine.printed
    field = tampered(genuine, DocumentAttack.ALTERED_FIELD)
    assert field.printed.birth_date > field.encoded.birth_date == genuine.encoded.birth_date
    assert field.mrz == genuine.mrz
    old = tampered(genuine, DocumentAttack.EXPIRED)
    assert old.printed == old.encoded
    assert old.printed.issue_date < old.printed.expiry_date < TODAY
    assert all(check_digits_hold(old.mrz))
    assert tampered(genuine, None) == tampered(genuine, DocumentAttack.BLURRED) == genuine


def test_none_or_two_documents_lie_on_the_desk(azure: Specimen) -> None:
    assert record(front_scene(azure, seed=51, attack=DocumentAttack.NO_DOCUMENT, seconds=0.1)).quads.shape == (
        2,
        0,
        4,
        2,
    )
    two = front_scene(azure, seed=52, attack=DocumentAttack.TWO_DOCUMENTS, seconds=0.1)
    quads = two.quads()
    assert quads.shape == (2, 2, 4, 2)
    assert np.all((quads > 0) & (quads < np.array(USUAL.size)))
    assert quads[:, 0, :, 0].max() < quads[:, 1, :, 0].min()
    frame = next(iter(two.frames()))
    printed = render_front(azure).astype(np.float64)
    likeness = [np.corrcoef(printed.ravel(), level_view(frame, quad).ravel())[0, 1] for quad in quads[0]]
    assert likeness[0] > 0.85 > 0.6 > likeness[1]


def test_no_frames_no_film() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        encode_mp4(iter(()), frame_rate=30)


def test_drawn_conditions_are_those_of_the_film(ochre: Specimen) -> None:
    drawn = [DocumentConditions.draw(random.Random(f"conditions {n}")) for n in range(40)]
    assert {c.size for c in drawn} == {(1280, 720), (1920, 1080), (960, 540)}
    assert {c.frame_rate for c in drawn} == {24, 25, 30}
    assert not any(c.mosaic for c in drawn if c.size[0] == 960)
    conditions = next(c for c in drawn if c.size == (960, 540) and c.frame_rate == 25)
    capture = record(front_scene(ochre, seed=61, seconds=0.2, conditions=conditions))
    with av.open(io.BytesIO(capture.data)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate or 0) == (960, 540, 25)
    assert np.all((capture.quads > 0) & (capture.quads < np.array(conditions.size)))


def test_a_photo_is_a_jpeg_in_focus(ochre: Specimen) -> None:
    scene = back_scene(ochre, seed=62, seconds=0.6)
    data = photo(scene)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert data[:2] == b"\xff\xd8"
    assert picture is not None
    codes = zxingcpp.read_barcodes(level_view(np.asarray(picture, np.uint8), scene.quads()[-1, 0]))
    assert [code.bytes for code in codes] == [aamva_payload(ochre.encoded)]


@pytest.mark.parametrize("layout", ["stripes", "reversed", "upright", "diamonds"])
def test_a_white_screen_is_white_from_afar_and_striped_from_near(layout: str) -> None:
    white = np.full((60, 60, 3), 200, np.uint8)
    glowing = Display(0.2, 800, layout=layout).glowing(white, blur=0.5)  # type: ignore[arg-type]
    assert glowing.shape == (180, 180, 3)
    inner = glowing[30:-30, 30:-30].astype(np.float64)
    far = Display(0.2, 800, layout=layout).glowing(white, blur=4.0)[30:-30, 30:-30].astype(np.float64)  # type: ignore[arg-type]
    assert inner.std(axis=(0, 1)).min() > 40 > 8 > far.std(axis=(0, 1)).max()
    assert np.ptp(far.mean(axis=(0, 1))) < 4


def test_a_replaced_portrait_covers_the_portrait_and_nothing_else(azure: Specimen) -> None:
    front = render_front(azure)
    forged, cover = portrait_replaced(front, azure, 63)
    changed = np.abs(forged.astype(int) - front.astype(int)).max(axis=2) > 12
    rows, columns = np.nonzero(cover > 0.5)
    assert changed[rows, columns].mean() > 0.7
    away = cv2.dilate((cover > 0.01).astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert not changed[away].any()
    assert 0.15 < cover.mean() < 0.3


@pytest.mark.parametrize("seed", range(64, 70))
def test_an_edited_text_changes_one_field_only(ochre: Specimen, seed: int) -> None:
    front = render_front(ochre)
    forged = text_edited(front, ochre, seed)
    rows, columns = np.nonzero(np.abs(forged.astype(int) - front.astype(int)).max(axis=2) > 12)
    assert len(rows) > 300
    assert np.ptp(rows) < 6 * 11.82
    assert np.ptp(columns) < 52 * 11.82
    np.testing.assert_array_equal(forged, text_edited(front, ochre, seed))
