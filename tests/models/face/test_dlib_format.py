"""The reader of dlib's format: its numbers, both networks, and files that are not what they should be."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import WeightsError
from models.face.detector import _LAYER_KINDS
from models.face.dlib_format import DlibNetwork, DlibReader, read_network
from models.face.embedder import _layer_kinds
from models.networks.weights import dlib_path


@pytest.fixture(scope="module")
def detector_bytes() -> bytes:
    return dlib_path("mmod_human_face_detector").read_bytes()


def read_detector(data: bytes) -> DlibNetwork:
    return read_network(data, loss="loss_mmod_", source="input_rgb_image_pyramid", layers=_LAYER_KINDS)


def written_int(value: int) -> bytes:
    magnitude = abs(value)
    size = max(1, (magnitude.bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + magnitude.to_bytes(size, "little")


def written_float(value: float) -> bytes:
    if not math.isfinite(value):
        special = 32002 if math.isnan(value) else 32000 if value > 0 else 32001
        return written_int(0) + written_int(special)
    mantissa, exponent = math.frexp(value)
    return written_int(int(mantissa * 2**53)) + written_int(exponent - 53)


@given(st.lists(st.integers(-(2**64 - 1), 2**64 - 1)))
def test_ints_come_back(values: list[int]) -> None:
    reader = DlibReader(b"".join(written_int(value) for value in values))
    assert [reader.integer() for _ in values] == values
    assert reader.remaining == 0


@given(st.lists(st.floats(allow_nan=False)))
def test_floats_come_back(values: list[float]) -> None:
    reader = DlibReader(b"".join(written_float(value) for value in values))
    assert [reader.real() for _ in values] == values
    assert reader.remaining == 0


def test_known_numbers() -> None:
    """Bytes as they stand in dlib's own files: 80, -17, 1.0, and the mean red of the input."""
    assert DlibReader(bytes.fromhex("0150")).integer() == 80
    assert DlibReader(bytes.fromhex("8111")).integer() == -17
    assert DlibReader(bytes.fromhex("01108104")).real() == 1.0
    assert DlibReader(bytes.fromhex("036290f58111")).real() == pytest.approx(122.782, abs=1e-5)
    assert math.isnan(DlibReader(written_float(math.nan)).real())


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=50))
def test_tensors_come_back(values: list[float]) -> None:
    header = b"".join(written_int(number) for number in (2, 1, 1, 1, len(values)))
    reader = DlibReader(header + struct.pack(f"<{len(values)}f", *values))
    assert reader.tensor().tolist() == values


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_weights_error(data: bytes) -> None:
    for method in (DlibReader.integer, DlibReader.real, DlibReader.text, DlibReader.alias, DlibReader.tensor):
        reader = DlibReader(data)
        try:
            while True:
                method(reader)
        except WeightsError:
            pass
    with pytest.raises(WeightsError):
        read_detector(data)


def test_a_tensor_larger_than_the_file_takes_no_memory() -> None:
    header = b"".join(written_int(number) for number in (2, 2**40, 2**40, 1, 1))
    with pytest.raises(WeightsError, match="bytes wanted"):
        DlibReader(header + b"\0" * 64).tensor()


def test_detector_is_read_whole(detector_bytes: bytes) -> None:
    network = read_detector(detector_bytes)
    assert network.mmod is not None
    assert network.mmod.window == (80, 80)
    assert network.mmod.overlap == pytest.approx(0.338, abs=1e-3)
    assert network.mean == pytest.approx((122.782, 117.001, 104.298), abs=1e-4)
    shapes = [layer.shape for layer in network.layers if layer.kind == "con"]
    assert shapes == [
        (16, 3, 5, 5), (32, 16, 5, 5), (32, 32, 5, 5), (45, 32, 5, 5), (45, 45, 5, 5), (45, 45, 5, 5), (1, 45, 9, 9),
    ]  # fmt: skip
    assert all(np.isfinite(layer.params).all() for layer in network.layers)


def test_embedder_is_read_whole() -> None:
    network = read_network(
        dlib_path("dlib_face_recognition_resnet_model_v1").read_bytes(),
        loss="loss_metric_2",
        source="input_rgb_image_sized",
        layers=_layer_kinds(),
    )
    assert network.mmod is None
    # Published sizes: 29 convolutions and the last matrix, 5,614,592 parameters with those of the affines.
    assert sum(layer.kind == "con" for layer in network.layers) == 29
    assert sum(layer.params.size for layer in network.layers) == 5_614_592
    assert network.layers[-1].shape == (256, 128)


def test_the_other_network_is_refused(detector_bytes: bytes) -> None:
    with pytest.raises(WeightsError, match="'loss_mmod_' found, 'loss_metric_2' expected"):
        read_network(detector_bytes, loss="loss_metric_2", source="input_rgb_image_sized", layers=_layer_kinds())


def test_another_layer_sequence_is_refused(detector_bytes: bytes) -> None:
    kinds = [*_LAYER_KINDS[:3], "relu", *_LAYER_KINDS[4:]]
    with pytest.raises(WeightsError, match="'con_4' found, 'relu_' expected at byte"):
        read_network(detector_bytes, loss="loss_mmod_", source="input_rgb_image_pyramid", layers=kinds)
    with pytest.raises(WeightsError, match="expected"):
        read_network(detector_bytes, loss="loss_mmod_", source="input_rgb_image_pyramid", layers=_LAYER_KINDS[:-1])


def test_truncated_and_lengthened_files_are_refused(detector_bytes: bytes) -> None:
    for length in (0, 1, 17, 100, 5_000, len(detector_bytes) // 2, len(detector_bytes) - 1):
        with pytest.raises(WeightsError):
            read_detector(detector_bytes[:length])
    with pytest.raises(WeightsError, match="1 bytes left over"):
        read_detector(detector_bytes + b"\0")


@given(st.integers(0, 130), st.integers(1, 255))
def test_a_damaged_header_is_refused_or_read_but_never_crashes(position: int, flip: int) -> None:
    data = bytearray(dlib_path("mmod_human_face_detector").read_bytes()[:200_000])
    data[position] ^= flip
    with pytest.raises(WeightsError):  # the cut makes every one of them end in an error of ours
        read_detector(bytes(data))
