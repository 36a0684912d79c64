"""Writes tiny networks as ONNX files, field by field (onnx.proto), because the package `onnx` is no dependency."""

from __future__ import annotations

from collections.abc import Sequence

Size = int | str
"""The size of a tensor's axis, or the name of an axis of any size."""


def patches(shape: Sequence[Size] = ("N", 3, 112, 112), side: int = 14, then: Sequence[str] = ()) -> bytes:
    """A network that gives the mean of each channel over squares of `side` pixels: a rough description of a picture.

    side: 0 gives all pixels unchanged. then: further operators before the output, each with one input or the same input
    twice.
    """
    pooling = [_node("AveragePool", ["x"], "pooled", kernel_shape=[side, side], strides=[side, side])] if side else []
    nodes = [*pooling, _node("Flatten", ["pooled" if side else "x"], "at0", axis=1)]
    for index, operator in enumerate(then):
        nodes.append(_node(operator, [f"at{index}"] * (2 if operator == "Sub" else 1), f"at{index + 1}"))
    graph = b"".join(
        [
            *(_message(1, node) for node in nodes),
            _message(2, b"patches"),
            _message(11, _tensor("x", shape)),
            _message(12, _message(1, f"at{len(then)}".encode())),
        ]
    )
    return _integer(1, 8) + _message(7, graph) + _message(8, _integer(2, 13))


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: int | list[int]) -> bytes:
    parts = [_message(1, name.encode()) for name in inputs]
    parts += [_message(2, output.encode()), _message(4, operator.encode())]
    for name, value in attributes.items():
        if isinstance(value, int):
            held = _integer(3, value) + _integer(20, 2)
        else:
            held = b"".join(_integer(8, one) for one in value) + _integer(20, 7)
        parts.append(_message(5, _message(1, name.encode()) + held))
    return b"".join(parts)


def _tensor(name: str, shape: Sequence[Size]) -> bytes:
    sizes = [_integer(1, size) if isinstance(size, int) else _message(2, size.encode()) for size in shape]
    of_float = _integer(1, 1) + _message(2, b"".join(_message(1, size) for size in sizes))
    return _message(1, name.encode()) + _message(2, _message(1, of_float))


def _message(number: int, body: bytes) -> bytes:
    return _variable(number << 3 | 2) + _variable(len(body)) + body


def _integer(number: int, value: int) -> bytes:
    return _variable(number << 3) + _variable(value)


def _variable(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
