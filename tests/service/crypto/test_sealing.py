"""The sealed format: what comes back is what was sealed, and nothing else opens."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.crypto import sealing
from service.crypto.sealing import CHUNK, Sealer, Values, join, open_entry, open_entry_with, seal_entry
from service.errors import SealBrokenError

KEY = bytes(range(32))
PLACE = "cases/case_01kb0000000000000000000000/front-1-00.media"
RECORD = 64
"""Bytes of content in a record, in tests of many records."""


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Records of some bytes, so that hundreds of entries of many records are looked at in a second."""
    if "whole_records" not in request.fixturenames:
        monkeypatch.setattr(sealing, "CHUNK", RECORD)
        monkeypatch.setattr(sealing, "_RECORD", RECORD + 16)


@pytest.fixture
def whole_records() -> None:
    """Records of the size that is used."""


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, then the rest."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def sealed_in(parts: Iterator[bytes], place: str = PLACE) -> bytes:
    sealer = Sealer(KEY, place)
    return b"".join([*(record for part in parts for record in sealer.update(part)), *sealer.finish()])


contents = st.one_of(st.binary(max_size=RECORD * 4), st.sampled_from([0, 1, 2, 3]).map(lambda n: b"p" * (RECORD * n)))
sizes = st.lists(st.integers(0, 150), max_size=8)


@given(contents, sizes, sizes)
def test_what_was_sealed_comes_back_however_it_is_cut(content: bytes, written: list[int], read: list[int]) -> None:
    entry = sealed_in(cut(content, written))
    assert join(open_entry(cut(entry, read), KEY, PLACE)) == content
    assert len(entry) == 44 + len(content) + 16 * max(1, -(-len(content) // RECORD))


@given(contents, st.data())
def test_a_flipped_bit_is_refused(content: bytes, data: st.DataObject) -> None:
    entry = bytearray(seal_entry(content, KEY, PLACE))
    entry[data.draw(st.integers(0, len(entry) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBrokenError):
        join(open_entry([bytes(entry)], KEY, PLACE))


@given(contents, st.data())
def test_a_part_that_is_cut_off_or_added_is_refused(content: bytes, data: st.DataObject) -> None:
    entry = seal_entry(content, KEY, PLACE)
    with pytest.raises(SealBrokenError):
        join(open_entry([entry[: data.draw(st.integers(0, len(entry) - 1))]], KEY, PLACE))
    with pytest.raises(SealBrokenError):
        join(open_entry([entry + data.draw(st.binary(min_size=1, max_size=200))], KEY, PLACE))


@given(st.integers(2, 5), st.integers(1, RECORD), st.data())
def test_records_in_another_order_left_out_or_doubled_are_refused(records: int, last: int, data: st.DataObject) -> None:
    entry = seal_entry(secrets.token_bytes(RECORD * (records - 1) + last), KEY, PLACE)
    parts = list(cut(entry[44:], [RECORD + 16] * (records - 1)))
    assert len(parts) == records
    shown = data.draw(
        st.lists(st.integers(0, records - 1), max_size=6).filter(lambda seen: seen != list(range(records)))
    )
    with pytest.raises(SealBrokenError):
        join(open_entry([entry[:44], *(parts[number] for number in shown)], KEY, PLACE))


@given(contents)
def test_another_place_case_or_entry_does_not_open(content: bytes) -> None:
    entry, twin = (seal_entry(content, KEY, PLACE) for _ in range(2))
    assert entry != twin
    for key, place in ((KEY, PLACE.replace("front", "back")), (bytes(32), PLACE)):
        with pytest.raises(SealBrokenError):
            join(open_entry([entry], key, place))
    for mixed in (entry[:44] + twin[44:], twin[:37] + entry[37:]):
        with pytest.raises(SealBrokenError):
            join(open_entry([mixed], KEY, PLACE))


@given(contents)
def test_an_entry_key_opens_its_entry_alone(content: bytes) -> None:
    sealer = Sealer(KEY, PLACE)
    entry = b"".join((*sealer.update(content), *sealer.finish()))
    assert join(open_entry_with([entry], sealer.key)) == content
    with pytest.raises(SealBrokenError):
        join(open_entry_with([seal_entry(content, KEY, PLACE)], sealer.key))


def test_what_is_given_of_a_broken_entry_was_proved() -> None:
    """A reader that writes on as records come gets no byte of the record that was changed, nor of those behind it."""
    content = secrets.token_bytes(RECORD * 4)
    entry = bytearray(seal_entry(content, KEY, PLACE))
    entry[44 + 2 * (RECORD + 16) + 5] ^= 1
    parts = open_entry([bytes(entry)], KEY, PLACE)
    assert [next(parts), next(parts)] == [content[:RECORD], content[RECORD : 2 * RECORD]]
    with pytest.raises(SealBrokenError):
        next(parts)


def test_records_of_the_size_in_use(whole_records: None) -> None:
    for size in (CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7):
        content = secrets.token_bytes(size)
        assert join(open_entry([seal_entry(content, KEY, PLACE)], KEY, PLACE)) == content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_value_comes_back_and_two_of_the_same_differ(value: object) -> None:
    values = Values(KEY)
    first, second = (values.seal(value, "cases.checks/a") for _ in range(2))
    assert values.open(first, "cases.checks/a") == values.open(second, "cases.checks/a") == value
    assert first != second


@settings(max_examples=50)
@given(json_values, st.data())
def test_a_value_that_was_changed_cut_or_moved_is_refused(value: object, data: st.DataObject) -> None:
    sealed_value = Values(KEY).seal(value, "cases.checks/a")
    changed = bytearray(sealed_value)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    shorter = sealed_value[: data.draw(st.integers(0, len(sealed_value) - 1))]
    for wrong in (bytes(changed), shorter, sealed_value + b"x"):
        with pytest.raises(SealBrokenError):
            Values(KEY).open(wrong, "cases.checks/a")
    for key, place in ((KEY, "cases.checks/b"), (KEY, "cases.recorded/a"), (bytes(32), "cases.checks/a")):
        with pytest.raises(SealBrokenError):
            Values(key).open(sealed_value, place)
