"""PP-OCR's networks as packaged in rapidocr's wheel, with a lighter recogniser.

rapidocr itself is not imported: its wrappers took a tenth of the CPU time of a page. Lines are found in
`models.text.boxes` and read in `models.text.strips`. The recogniser's graph is made lighter before it is loaded.

Networks: PP-OCRv6 small (detection, recognition) and PP-OCR mobile v2.0 (direction), PaddlePaddle, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.networks import weights

Stage = Literal["detector", "direction", "recogniser"]

_HEAD = {b"linear_8.w_0", b"linear_8.b_0"}
"""The recogniser's last layer, one column for each character."""

_ROWS_PER_FEATURE = 16
"""Rows of a strip that become one row before the recogniser takes the mean over all of them."""

# Fields of ONNX's protocol buffers (onnx.proto), by message.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_WEIGHT, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SHAPES = 1, 5, 11, 12, 13
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGERS = 1, 8
_WEIGHT_SIZE, _WEIGHT_NAME, _WEIGHT_DATA = 1, 8, 9


def packaged(stage: Stage) -> bytes:
    """One network's file, its digest checked. Raises WeightsError: rapidocr is not installed, or another digest."""
    return weights.onnx(f"ppocr_{stage}")


def lighter(recogniser: bytes, rows: int, columns: npt.NDArray[np.intp]) -> bytes:
    """The recogniser for strips of `rows` pixels (a multiple of 16) instead of 48, and with only these columns.

    Its time is linear in rows; its last layer of 18,710 columns takes a seventh of the time at 48 rows and a fifth at
    32. Weights stay as they are. onnxruntime can do neither by itself, and the package onnx, which could, is no
    dependency; so the file is taken apart here as protocol buffers.

    recogniser: as `packaged` gives it. columns: intp (C,), 0 (the blank) among them. The result's output is
    float32 (N, width // 8, C), each row a softmax over these columns alone.
    """
    return b"".join(
        _field(_MODEL_GRAPH, _graph(body, rows, columns)) if number == _MODEL_GRAPH else whole
        for number, whole, body in _fields(recogniser)
    )


def _graph(graph: bytes, rows: int, columns: npt.NDArray[np.intp]) -> bytes:
    parts = []
    for number, whole, body in _fields(graph):
        if number == _GRAPH_NODE and _first(body, _NODE_OPERATOR) == b"AveragePool":  # there is one
            parts.append(_field(_GRAPH_NODE, _pool(body, rows // _ROWS_PER_FEATURE)))
        elif number == _GRAPH_WEIGHT and _first(body, _WEIGHT_NAME) in _HEAD:
            parts.append(_field(_GRAPH_WEIGHT, _picked(body, columns)))
        elif number == _GRAPH_INPUT:
            sizes = b"".join(_field(1, size) for size in (_field(2, b"N"), b"\x08\x03", b"\x08" + _varint(rows),
                                                          _field(2, b"W")))  # fmt: skip
            tensor = b"\x08\x01" + _field(2, sizes)  # of float32
            parts.append(_field(_GRAPH_INPUT, _field(1, b"x") + _field(2, _field(1, tensor))))
        elif number == _GRAPH_OUTPUT:
            parts.append(_field(_GRAPH_OUTPUT, _field(1, _first(body, 1))))  # its name; the size is another now
        elif number != _GRAPH_SHAPES:  # shapes in between, which were of 48 rows; onnxruntime finds them itself
            parts.append(whole)
    return b"".join(parts)


def _pool(node: bytes, height: int) -> bytes:
    """The mean over all `height` rows of features and over two columns."""
    parts = []
    for number, whole, body in _fields(node):
        if number == _NODE_ATTRIBUTE and _first(body, _ATTRIBUTE_NAME) in (b"kernel_shape", b"strides"):
            rest = b"".join(part for field, part, _ in _fields(body) if field != _ATTRIBUTE_INTEGERS)
            sizes = b"".join(_varint(_ATTRIBUTE_INTEGERS << 3) + _varint(size) for size in (height, 2))
            parts.append(_field(_NODE_ATTRIBUTE, rest + sizes))
        else:
            parts.append(whole)
    return b"".join(parts)


def _picked(weight: bytes, columns: npt.NDArray[np.intp]) -> bytes:
    """A weight, float32 (..., K), of which only these columns are kept."""
    matrix = _first(weight, _WEIGHT_NAME) == b"linear_8.w_0"
    values = np.frombuffer(_first(weight, _WEIGHT_DATA), np.float32)
    kept = values.reshape(120, -1)[:, columns] if matrix else values[columns]
    rest = b"".join(part for field, part, _ in _fields(weight) if field not in (_WEIGHT_SIZE, _WEIGHT_DATA))
    sizes = b"".join(_varint(_WEIGHT_SIZE << 3) + _varint(size) for size in kept.shape)
    return rest + sizes + _field(_WEIGHT_DATA, kept.tobytes())


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole bytes and content of each field of a message; the content of a number is empty."""
    at = 0
    while at < len(message):
        start = at
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _number(message, at)
            yield key >> 3, message[start:at], b""
        elif kind == 2:
            length, at = _number(message, at)
            at += length
            yield key >> 3, message[start:at], message[at - length : at]
        else:
            at += {1: 8, 5: 4}[kind]
            yield key >> 3, message[start:at], b""


def _first(message: bytes, number: int) -> bytes:
    return next((body for field, _, body in _fields(message) if field == number), b"")


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
