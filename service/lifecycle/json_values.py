"""Conversion of values to and from JSON. Whatever a model puts into a result's properties must fit a response and the
store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from graphs.records import CheckResult
from service.lifecycle.case import Recorded, StepState

CHECKS = TypeAdapter(tuple[CheckResult, ...])
RECORDED = TypeAdapter(Recorded)
STEPS = TypeAdapter(dict[str, StepState])


def jsonable(value: Any) -> Any:
    """`value` with JSON's types only. A number that JSON cannot represent (NaN, infinity) becomes None: not measured.

    Dataclasses and mappings become objects, numpy scalars and arrays become numbers and lists, bytes become
    hexadecimal text, and anything else becomes its `str`.
    """
    match value:
        case None | bool() | int() | str() if not isinstance(value, Enum):
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case Enum():
            return jsonable(value.value)
        case datetime() | date():
            return value.isoformat()
        case np.generic() | np.ndarray():
            return jsonable(value.tolist())
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): jsonable(item) for key, item in value.items()}
        case Sequence() | Set():
            return [jsonable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in fields(value)}
    return str(value)
