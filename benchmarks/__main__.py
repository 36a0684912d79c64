"""`make bench`: every measurement that this machine has the data for, one after the other."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ALWAYS = ("decision_latency", "checks.face_speed", "batching", "checks.text_cost", "scaling")
WITH_DATA = ("mrz", "barcode", "face")
"""What `veridask evaluate` measures on the evaluation data."""


def main() -> int:
    """Run them; gives 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("..") / "shared" / "data", help="folder of evaluation data")
    data = parser.parse_args().data
    failed = []
    for name in ALWAYS + WITH_DATA:
        if name in WITH_DATA and not data.is_dir():
            print(f"== {name}: skipped, {data} is not there")
            continue
        print(f"== {name}", flush=True)
        module = ["service.cli", "evaluate", name, "--data", str(data)] if name in WITH_DATA else [f"benchmarks.{name}"]
        if subprocess.run([sys.executable, "-m", *module], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
