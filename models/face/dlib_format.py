"""Reads dlib's serialised networks (`.dat`), for the two networks used here.

The format, as dlib 19 and 20 write it:

- int: a control byte (low 4 bits: how many bytes follow; high bit: negative), then the magnitude, little-endian;
- float: two ints, mantissa m and exponent e, value m·2^e; e = 32000, 32001, 32002 stand for inf, -inf and nan;
- text: an int length, then bytes; bool: the character '0' or '1';
- tensor: int version 2, four ints (samples, channels, rows, columns), then raw little-endian float32;
- network: the loss layer first, then the versions of all nested layers from the outermost to the innermost (2: a layer,
  1: a tag or skip, 3: the innermost layer, which holds the input), then the contents from the innermost outwards.

The caller says what each layer must be, and the reader checks it, so the file of another network is refused at the
first layer that differs. Only what inference needs is returned: learning rates and gradients are skipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPECIAL = {32000: math.inf, 32001: -math.inf, 32002: math.nan}
_TAG, _LAYER, _INNERMOST = 1, 2, 3


@dataclass(frozen=True)
class DlibLayer:
    """One layer. kind: con, affine, fc, relu, max_pool, avg_pool, add_prev or tag.

    params: float32 (P,), empty where a layer has none. shape: of the weights in params, which come first and are
    followed by the biases: con (filters, channels, rows, columns), fc (inputs, outputs), affine (channels,).
    window: pools (rows, columns), 0 for the whole image. stride, padding: (y, x).
    """

    kind: str
    params: npt.NDArray[np.float32]
    shape: tuple[int, ...] = ()
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MmodOptions:
    """What the MMOD loss layer keeps for detection. window: (width, height) in pixels. Two boxes are the same object
    when intersection / hull exceeds `overlap`, or intersection / either area exceeds `covered`.
    """

    window: tuple[int, int]
    overlap: float
    covered: float


@dataclass(frozen=True)
class DlibNetwork:
    """A network. mmod: only of a detector. mean: of the RGB input, subtracted before the division by 256.
    layers: from the input to the output.
    """

    mmod: MmodOptions | None
    mean: tuple[float, float, float]
    layers: tuple[DlibLayer, ...]


class DlibReader:
    """Takes values off the front of bytes. Every method raises WeightsError on anything that is not the format."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._position

    def fail(self, what: str) -> WeightsError:
        """The error for this position."""
        return WeightsError(f"not the expected dlib network: {what} at byte {self._position}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.remaining:
            raise self.fail(f"{count} bytes wanted, {self.remaining} left")
        start = self._position
        self._position += count
        return self._data[start : self._position]

    def integer(self) -> int:
        """An int of at most 8 bytes."""
        control = self.take(1)[0]
        size = control & 0x0F
        if not 1 <= size <= 8 or control & 0x70:
            raise self.fail(f"control byte {control:#04x} of an int")
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if control & 0x80 else magnitude

    def real(self) -> float:
        """A float or double."""
        mantissa, exponent = self.integer(), self.integer()
        if exponent in _SPECIAL:
            return _SPECIAL[exponent]
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            raise self.fail(f"float with exponent {exponent}") from None

    def text(self) -> str:
        """A string of at most 64 bytes: only names of layers occur."""
        size = self.integer()
        if not 0 <= size <= 64:
            raise self.fail(f"text of {size} bytes")
        return self.take(size).decode("ascii", errors="replace")

    def expect(self, *numbers: int) -> None:
        """These ints and no others, in this order."""
        for number in numbers:
            if (found := self.integer()) != number:
                raise self.fail(f"{found} found, {number} expected")

    def sizes(self, count: int) -> tuple[int, ...]:
        """`count` ints, none negative."""
        values = tuple(self.integer() for _ in range(count))
        if min(values) < 0:
            raise self.fail(f"negative size in {values}")
        return values

    def alias(self) -> tuple[int, ...]:
        """The shape (samples, channels, rows, columns) of a view into a layer's parameters."""
        self.expect(1)
        return self.sizes(4)

    def tensor(self) -> npt.NDArray[np.float32]:
        """A tensor, flat. Read as one block: 22 MB take no longer than a copy."""
        self.expect(2)
        return np.frombuffer(self.take(4 * math.prod(self.sizes(4))), dtype="<f4").astype(np.float32)


def read_network(data: bytes, *, loss: str, source: str, layers: Sequence[str]) -> DlibNetwork:
    """Read one network.

    data: the whole file. loss, source: dlib's names of the loss and of the input layer. layers: kinds expected from the
    input to the output, in the words of DlibLayer.kind. Raises WeightsError when the file is anything else.
    """
    reader = DlibReader(data)
    reader.expect(1)
    _expect_name(reader, loss)
    mmod = None
    if loss == "loss_mmod_":
        mmod = _mmod_options(reader)
    else:
        reader.real(), reader.real()  # margin and distance of loss_metric: for training only
    for kind in reversed(layers[1:]):
        reader.expect(_TAG if kind == "tag" else _LAYER)
    reader.expect(_INNERMOST)
    mean = _input(reader, source)
    found = [_layer(reader, layers[0])]
    reader.expect(1)  # sample expansion factor
    found += [_layer(reader, kind) for kind in layers[1:]]
    if reader.remaining:
        raise reader.fail(f"{reader.remaining} bytes left over")
    return DlibNetwork(mmod, mean, tuple(found))


def _expect_name(reader: DlibReader, name: str) -> None:
    if (found := reader.text()) != name:
        raise reader.fail(f"{found!r} found, {name!r} expected")


def _mmod_options(reader: DlibReader) -> MmodOptions:
    reader.expect(1)
    width, height = reader.sizes(2)
    for _ in range(3):  # losses and the overlap that training counted as a hit
        reader.real()
    overlap, covered = reader.real(), reader.real()
    reader.real(), reader.real()  # which boxes training ignored
    return MmodOptions((width, height), overlap, covered)


def _input(reader: DlibReader, name: str) -> tuple[float, float, float]:
    _expect_name(reader, name)
    mean = reader.real(), reader.real(), reader.real()
    if name == "input_rgb_image_sized":
        reader.expect(150, 150)
    return mean


_NAMES = {
    "con": "con_4",
    "affine": "affine_",
    "fc": "fc_2",
    "relu": "relu_",
    "max_pool": "max_pool_2",
    "avg_pool": "avg_pool_2",
    "add_prev": "add_prev_",
}
_NORMALISED = "bn_con2"  # a batch normalisation, stored as trained; at inference it is an affine
_NOTHING = np.empty(0, np.float32)


def _layer(reader: DlibReader, kind: str) -> DlibLayer:
    if kind == "tag":
        return DlibLayer(kind, _NOTHING)
    name = reader.text()
    if kind == "affine" and name == _NORMALISED:
        layer = _normalisation(reader)
    elif name == _NAMES[kind]:
        layer = _details(reader, kind)
    else:
        raise reader.fail(f"{name!r} found, {_NAMES[kind]!r} expected")
    if reader.take(3).strip(b"01"):
        raise reader.fail("flags that are not bools")
    for _ in range(3):  # gradients and the last output, all stored empty
        reader.tensor()
    return layer


def _details(reader: DlibReader, kind: str) -> DlibLayer:
    if kind in ("relu", "add_prev"):
        return DlibLayer(kind, _NOTHING)
    if kind in ("max_pool", "avg_pool"):
        rows, columns, *rest = reader.sizes(6)
        return DlibLayer(kind, _NOTHING, (), (rows, columns), (rest[0], rest[1]), (rest[2], rest[3]))
    if kind == "affine":
        params = reader.tensor()
        gamma, beta = reader.alias(), reader.alias()
        reader.expect(0)  # one factor per channel; 1 would be one per value
        return _checked(reader, DlibLayer(kind, params, (gamma[1],)), math.prod(gamma) + math.prod(beta))
    if kind == "fc":
        outputs, inputs = reader.sizes(2)
        params = reader.tensor()
        weights, biases = reader.alias(), reader.alias()
        reader.expect(1)  # without bias
        _rates(reader)
        return _checked(reader, DlibLayer(kind, params, (inputs, outputs)), math.prod(weights) + math.prod(biases))
    params = reader.tensor()
    filters, rows, columns, *rest = reader.sizes(7)
    weights, biases = reader.alias(), reader.alias()
    _rates(reader)
    if weights[0] != filters or weights[2:] != (rows, columns):
        raise reader.fail(f"weights {weights} for {filters} filters of {rows} by {columns}")
    layer = DlibLayer(kind, params, weights, (rows, columns), (rest[0], rest[1]), (rest[2], rest[3]))
    return _checked(reader, layer, math.prod(weights) + math.prod(biases))


def _normalisation(reader: DlibReader) -> DlibLayer:
    """A batch normalisation as the affine that it is at inference: gamma/√(variance+eps), beta − mean·that."""
    params = reader.tensor()
    shape, _ = reader.alias(), reader.alias()
    reader.tensor(), reader.tensor()  # of the last training batch
    mean, variance = reader.tensor(), reader.tensor()
    reader.sizes(2)  # how many updates were averaged
    _rates(reader)
    epsilon = reader.real()
    channels = shape[1]
    if not (params.size == 2 * channels == 2 * mean.size == 2 * variance.size):
        raise reader.fail(f"batch normalisation of {channels} channels with {params.size} parameters")
    gamma = params[:channels] / np.sqrt(variance + epsilon)
    beta = params[channels:] - mean * gamma
    return DlibLayer("affine", np.concatenate([gamma, beta]).astype(np.float32), (channels,))


def _checked(reader: DlibReader, layer: DlibLayer, wanted: int) -> DlibLayer:
    if layer.params.size != wanted or math.prod(layer.shape) > wanted:
        raise reader.fail(f"{layer.params.size} parameters for {layer.kind} {layer.shape}")
    return layer


def _rates(reader: DlibReader) -> None:
    for _ in range(4):
        reader.real()
