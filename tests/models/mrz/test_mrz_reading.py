"""Reading machine readable zones: decoding, repair, vote, and whole pictures drawn here."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import WeightsError
from models.mrz.check_digits import ALPHABET
from models.mrz.compose import compose_td1, compose_td3
from models.mrz.decode import decode, read_plainly
from models.mrz.reader import MrzReader
from models.mrz.recognise import LineRecogniser
from models.mrz.repair import evidence_of_text, repair, soften
from models.mrz.vote import vote
from models.networks import weights as on_record

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

FIELDS = ("UTO", "D23145890", date(1974, 8, 12), "F", date(2032, 4, 15), "UTO", "Eriksson", "Anna Maria")
TD1 = compose_td1("I", *FIELDS)
TD3 = compose_td3("P", *FIELDS)


def steps_of(text: str, gaps: dict[int, int]) -> Float:
    """CTC output in which the character at each index takes two steps, then `gaps` (else one) steps of blank."""
    columns: list[int] = []
    for index, character in enumerate(text):
        columns += [ALPHABET.index(character) + 1] * 2 + [0] * gaps.get(index, 1)
    table = np.full((len(columns), len(ALPHABET) + 1), 1e-4, np.float32)
    table[np.arange(len(columns)), columns] = 1
    return np.asarray(np.log(table / table.sum(axis=1, keepdims=True)), np.float32)


def test_decoding_gives_what_was_written() -> None:
    line = decode(steps_of(TD1[0], {}), 30)
    assert line is not None
    assert line.text == TD1[0]
    assert np.allclose(line.probabilities.sum(axis=1), 1, atol=1e-5)


def test_fused_fillers_are_parted_again_where_they_stand() -> None:
    # the blank between the fillers at 20 and 21 is missing: CTC reads one long filler, 29 characters in all
    steps = steps_of(TD1[2], {20: 0})
    assert len(read_plainly(steps).symbols) == 29
    line = decode(steps, 30)
    assert line is not None
    assert line.text == TD1[2]


def test_decoding_needs_enough_steps() -> None:
    assert decode(steps_of(TD1[0], {})[:20], 30) is None
    assert decode(np.log(np.eye(1, 38, 0, dtype=np.float32).repeat(80, axis=0) + 1e-6), 30) is None


@pytest.mark.parametrize("lines", [TD1, TD3], ids=["TD1", "TD3"])
def test_a_right_mrz_is_accepted_unchanged(lines: tuple[str, ...]) -> None:
    repaired = repair(evidence_of_text(lines))
    assert repaired is not None
    assert (repaired.mrz.lines, repaired.repairs, repaired.accepted, repaired.refusal) == (lines, (), True, "")


def test_confused_twins_are_repaired_and_reported() -> None:
    misread = (TD3[0].replace("UTO", "UT0"), TD3[1].replace("740812", "74OBIZ"))
    repaired = repair(evidence_of_text(misread))
    assert repaired is not None
    assert repaired.accepted
    assert repaired.mrz.lines == TD3
    changes = {(change.line, change.position, change.read, change.written) for change in repaired.repairs}
    assert changes == {(0, 4, "0", "O"), (1, 15, "O", "0"), (1, 16, "B", "8"), (1, 17, "I", "1"), (1, 18, "Z", "2")}
    assert {change.reason for change in repaired.repairs} == {"field"}


def test_a_filler_read_as_k_behind_the_names_is_no_name() -> None:
    rows = [np.exp(row) for row in evidence_of_text(TD3)]
    rows[0][40] *= 0.1
    rows[0][40, ALPHABET.index("K")] = 0.6
    rows[0][40, ALPHABET.index("<")] = 0.39
    repaired = repair([soften(np.asarray(row / row.sum(axis=1, keepdims=True), np.float32), 0.005) for row in rows])
    assert repaired is not None
    assert repaired.mrz.lines == TD3
    assert [(change.read, change.written, change.reason) for change in repaired.repairs] == [("K", "<", "grammar")]


def test_a_doubtful_twin_follows_the_check_digit() -> None:
    misread = [np.exp(rows) for rows in evidence_of_text((TD3[0], TD3[1].replace("D231", "0231")))]
    misread[1][0, [ALPHABET.index("0"), ALPHABET.index("D")]] = (0.6, 0.39)
    repaired = repair([np.asarray(np.log(rows), np.float32) for rows in misread])
    assert repaired is not None
    assert repaired.accepted
    assert repaired.mrz.lines == TD3
    (change,) = repaired.repairs
    assert (change.read, change.written, change.reason, change.unchecked) == ("0", "D", "check", False)


def test_two_fillings_that_both_fit_are_not_chosen_between() -> None:
    # K and the filler have the same value: no check digit tells them apart
    rows = [np.exp(rows) for rows in evidence_of_text(TD3)]
    rows[1][30, [ALPHABET.index("<"), ALPHABET.index("K")]] = (0.55, 0.44)
    repaired = repair([np.asarray(np.log(row), np.float32) for row in rows])
    assert repaired is not None
    assert (repaired.accepted, repaired.refusal) == (False, "ambiguous")


def test_a_passport_with_a_wrong_composite_is_no_visa() -> None:
    altered = (TD3[0], TD3[1][:-1] + str((int(TD3[1][-1]) + 3) % 10))
    repaired = repair(evidence_of_text(altered))
    assert repaired is not None
    assert (repaired.mrz.format, repaired.accepted) == ("TD3", False)


@pytest.mark.parametrize(("position", "digit"), [(13, "8"), (14, "9"), (22, "9"), (2, "4"), (9, "1")])
def test_an_altered_digit_is_not_repaired_away(position: int, digit: str) -> None:
    """A forger's change of one digit is read clearly: it must stay visible as a failed check, not become a repair."""
    assert TD3[1][position] != digit
    altered = (TD3[0], TD3[1][:position] + digit + TD3[1][position + 1 :])
    repaired = repair(evidence_of_text(altered))
    assert repaired is not None
    assert not repaired.accepted
    assert repaired.refusal in ("check_digits", "ambiguous")
    assert repaired.mrz.lines == altered


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_text_is_never_accepted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = ["".join(rng.choice(list(ALPHABET), 44)) for _ in range(2)]
    repaired = repair(evidence_of_text(lines))
    assert repaired is None or not repaired.accepted


def weights(line: str) -> list[int]:
    return [0 if character == "<" else int(character, 36) % 10 for character in line]


@pytest.mark.parametrize("position", range(44))
def test_what_is_accepted_after_a_clear_misreading_is_right(position: int) -> None:
    """Each digit at each place. Once "U8O" became the state UBO, which no table has, and was accepted."""
    for digit in "0123456789":
        altered = (TD3[0], TD3[1][:position] + digit + TD3[1][position + 1 :])
        repaired = repair(evidence_of_text(altered, error_rate=0.005))
        if repaired is not None and repaired.accepted:
            # Characters of the same value modulo 10 weigh the same (ICAO 9303-3 §4.9): no check digit parts them.
            assert [weights(line) for line in repaired.mrz.lines] == [weights(line) for line in TD3]
            assert repaired.mrz.nationality == "UTO"


def test_shapes_without_a_format() -> None:
    assert repair(evidence_of_text(["ABC", "DEF"])) is None


def test_frames_that_each_fail_are_right_together() -> None:
    rng = np.random.default_rng(7)
    truth = evidence_of_text(TD1)
    frames = []
    for _ in range(9):
        noise = [rng.normal(0, 1.3, rows.shape) for rows in truth]
        frames.append(tuple(np.asarray(rows / 2 + extra, np.float32) for rows, extra in zip(truth, noise, strict=True)))
    singles = [repair(frame) for frame in frames]
    assert not any(single is not None and single.accepted for single in singles)
    combined = vote(frames)
    assert np.allclose(np.exp(combined[0]).sum(axis=1), 1, atol=1e-4)
    together = repair(combined)
    assert together is not None
    assert together.accepted
    assert together.mrz.lines == TD1


def test_vote_follows_the_commonest_shape() -> None:
    a, b = evidence_of_text(TD1), evidence_of_text(TD3)
    assert [len(rows) for rows in vote([a, b, b])] == [44, 44]
    with pytest.raises(ValueError, match="no readings"):
        vote([])


def draw(lines: tuple[str, ...], size: tuple[int, int] = (1012, 638)) -> UInt8:
    """A page with an MRZ at its foot: strokes of OpenCV's own face, at the constant pitch of an MRZ."""
    image = np.full((size[1], size[0], 3), 225, np.uint8)
    pitch = 0.9 * size[0] / len(lines[0])
    scale = pitch / 22
    for row, line in enumerate(lines):
        y = int(size[1] * 0.93 - (len(lines) - 1 - row) * pitch * 1.9)
        for column, character in enumerate(line):
            x = int(size[0] * 0.05 + column * pitch)
            cv2.putText(image, character, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (25, 25, 25), 2, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.uint8)


@pytest.fixture(scope="module")
def reader() -> MrzReader:
    return MrzReader()


@pytest.mark.parametrize("lines", [TD1, TD3], ids=["TD1", "TD3"])
@pytest.mark.parametrize("upside_down", [False, True])
def test_a_page_is_read_either_way_up(reader: MrzReader, lines: tuple[str, ...], upside_down: bool) -> None:
    page = draw(lines)
    reading = reader.read([page[::-1, ::-1].copy() if upside_down else page])
    assert reading is not None
    assert reading.accepted
    assert reading.lines == lines
    assert reading.upside_down is upside_down
    assert reading.boxes.shape == (len(lines), 4, 2)
    middle = reading.boxes[..., 1].mean() / len(page)
    assert bool(middle < 0.5) is upside_down


@pytest.mark.parametrize("degrees", [17, 90, 230])
def test_a_photo_is_read_at_any_angle(reader: MrzReader, degrees: int) -> None:
    page = draw(TD3)
    canvas = np.full((1300, 1300, 3), 90, np.uint8)
    canvas[331 : 331 + 638, 144 : 144 + 1012] = page
    matrix = cv2.getRotationMatrix2D((650, 650), degrees, 1.0)
    photo = np.asarray(cv2.warpAffine(canvas, matrix, (1300, 1300), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    reading = reader.read([photo], any_angle=True)
    assert reading is not None
    assert reading.lines == TD3
    inside = reading.boxes.mean(axis=(0, 1))
    foot = matrix @ np.array([650, 331 + 638 * 0.89, 1])
    assert np.abs(inside - foot).max() < 30


def test_a_page_without_mrz_gives_nothing(reader: MrzReader) -> None:
    rng = np.random.default_rng(1)
    assert reader.read([np.full((638, 1012, 3), 200, np.uint8)]) is None
    assert reader.read([rng.integers(0, 255, (638, 1012, 3), dtype=np.uint8)]) is None
    assert reader.read([]) is None


def test_a_wrong_check_digit_in_the_picture_is_read_as_printed_and_refused(reader: MrzReader) -> None:
    altered = (TD3[0], TD3[1].replace("740812", "840812"))
    reading = reader.read([draw(altered)])
    assert reading is not None
    assert not reading.accepted
    assert reading.lines == altered
    assert reading.mrz.checks.birth is False


def test_other_weights_than_on_record_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = on_record.table()["ppocr_recogniser"]
    monkeypatch.setattr(on_record, "table", lambda: {row.name: replace(row, sha256="0" * 64)})
    with pytest.raises(WeightsError, match="on record is 0000"):
        LineRecogniser()
