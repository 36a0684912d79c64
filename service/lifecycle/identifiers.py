"""Ids that sort by time.

An id is `case_` and 26 characters of Crockford's base32: 48 bits of milliseconds, then 80 random bits (the layout of
UUID version 7, RFC 9562, without its version bits), so ids made later sort later and cannot be guessed.
"""

from __future__ import annotations

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_ORDERED = r"[0-9a-hjkmnp-tv-z]{26}"
"""Regular expression of the part after the prefix."""
_REST = re.compile(TIME_ORDERED)


def time_ordered(prefix: str) -> str:
    """A new id: `prefix`, an underscore, 26 characters."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` is an id with this prefix. Other text from a path must not reach the database."""
    return text.startswith(f"{prefix}_") and _REST.fullmatch(text, len(prefix) + 1) is not None


def is_case_id(text: str) -> bool:
    """Whether `text` is the id of a case. Only such text may become part of a file path."""
    return is_id("case", text)
