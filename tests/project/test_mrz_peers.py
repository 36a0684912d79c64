"""How the comparison puts the zone together from the lines that others read; the others are not run."""

from __future__ import annotations

import numpy as np

from benchmarks.checks.mrz_peers import _joined, zone_in

TD1 = ("I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<")
TD3 = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")


def test_a_zone_among_other_lines_with_miscounted_fillers() -> None:
    read = ("REPUBLIC OF UTOPIA, MINISTRY OF THE INTERIOR", "P<utoeriksson<<anna<maria<<<<<<<<<<<<<<<<<", TD3[1], "7")
    answer = zone_in(read)
    assert (answer.lines, answer.accepted) == (TD3, True)


def test_spaces_and_other_brackets() -> None:
    answer = zone_in([TD1[0].replace("<<<", "«‹‹"), TD1[1].replace("UTO", "U TO"), TD1[2]])
    assert (answer.lines, answer.accepted) == (TD1, True)


def test_a_misread_digit_is_mended_and_a_wrong_check_digit_is_not_accepted() -> None:
    assert zone_in([TD1[0], TD1[1].replace("7408122", "74O8I22"), TD1[2]]).lines == TD1
    wrong = TD1[1][:6] + "5" + TD1[1][7:]
    assert not zone_in([TD1[0], wrong, TD1[2]]).accepted


def test_text_without_a_zone() -> None:
    assert zone_in(["IDENTITY CARD", "A" * 80]).lines == ()
    assert zone_in([]).lines == ()


def test_pieces_at_one_height_are_one_line() -> None:
    box = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
    boxes = np.stack([box + np.array(shift, np.float32) for shift in ((50, 2), (0, 30), (0, 0))])
    assert _joined(boxes, ["right", "below", "left"]) == ["leftright", "below"]
