"""Reading of real PDF417 pictures: `python -m benchmarks.barcodes` prints one line per picture and the count.

The pictures are the evaluation data beside the checkout (see the README of that folder).
One of them led to the levelling of slanted symbols in `models.barcode`, so the count is not a blind figure.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from models.barcode import read_all

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def expected(row: dict[str, str]) -> list[bytes]:
    """The payloads that the table wants of one picture."""
    if row["encoding"] == "hex":
        return [bytes.fromhex(row["expected"])]
    return (
        [part.encode() for part in row["expected"].split("\x1e")]
        if "codes" in row["encoding"]
        else [row["expected"].encode()]
    )


def main() -> int:
    """Print the table; the exit code is 0 when the data is there."""
    table = DATA / "barcodes.csv"
    if not table.exists():
        print(f"no {table.name} beside the checkout: nothing measured")
        return 1
    read, times = 0, []
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    for row in rows:
        image = cv2.imread(str(DATA / row["path"]), cv2.IMREAD_GRAYSCALE)
        start = time.perf_counter()
        found = read_all(np.asarray(image, dtype=np.uint8))
        times.append(time.perf_counter() - start)
        # A text with character sets inside (ECI) is compared as text, everything else byte by byte.
        wanted = expected(row)
        right = [b.payload for b in found] == wanted or [b.text.encode() for b in found] == wanted
        read += right
        print(f"{Path(row['path']).name}  {'read' if right else 'MISSED'}  {1e3 * times[-1]:6.1f} ms  {row['origin']}")
    print(
        f"\nread {read} of {len(rows)}; median {1e3 * float(np.median(times)):.1f} ms, worst {1e3 * max(times):.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
