"""`make contract`: Schemathesis asks a running service what its OpenAPI document lets one ask, and what it does not,
and holds every answer to the document. `benchmarks/contract.toml` says what is meant otherwise.

The service has a cluster of its own; its case store is the one of VERIDASK_DATABASE_URL if that is set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.server.local import LocalServer

LIFTED: Mapping[str, Any] = {"key_rate": 10_000, "case_rate": 10_000}
"""Settings of a service that is asked as fast as it answers."""
PHASES = ("examples", "coverage", "fuzzing", "stateful")
_CONFIGURATION = Path(__file__).with_suffix(".toml")
_REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Verdict:
    """requests: how many were generated, sent and checked; failures: kinds of answers that the document does not allow,
    with the operations; whole: every operation was asked in every phase; output: what Schemathesis printed.
    """

    requests: int
    failures: list[str]
    whole: bool
    output: str


def held_to_its_document(url: str, key: str, folder: Path, examples: int, seed: int | None = None) -> Verdict:
    """Ask the service at `url` with a key that may do everything.

    folder: for what Schemathesis writes. examples: the most for each operation and phase. seed: other requests than the
    same ones at each run.
    """
    report = folder / "report.json"
    chosen = ["--generation-deterministic"] if seed is None else ["--seed", str(seed)]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIGURATION)),
            *("run", f"{url}/openapi.json", "--checks", "all", "--phases", ",".join(PHASES)),
            *("--max-examples", str(examples), *chosen, "--no-color"),
            *("--report", "json", "--report-json-path", str(report)),
        ],
        cwd=folder,
        # The hooks of the configuration are a module of the repository, which is not where it runs.
        env={**os.environ, "VERIDASK_API_KEY": key, "PYTHONPATH": str(_REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = run.stdout + run.stderr
    if not report.exists():
        raise RuntimeError(f"Schemathesis did not run (status {run.returncode}):\n{output}")
    told = json.loads(report.read_text("utf-8"))
    operations, phases = told["operations"], told["phases"]
    asked = operations["tested"] == operations["total"] and not operations["errored"] and told["complete"]
    whole = asked and all(phases[phase]["skip_reason"] is None for phase in PHASES)
    failures = [f"{failure['title']}: {', '.join(failure['operations'])}" for failure in told["failures"]]
    return Verdict(told["test_cases"]["generated"], failures, whole and run.returncode in (0, 1), output)


def main() -> int:
    """Run it; gives 1 if an answer was outside the document or an operation was not asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=150, help="most requests for each operation and phase")
    parser.add_argument("--seed", type=int, help="other requests than the same ones at each run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="veridask-contract-") as name, LocalServer(Path(name), **LIFTED) as local:
        running = local.start()
        verdict = held_to_its_document(running.url, running.key, Path(name), asked.examples, asked.seed)
    print(verdict.output)
    print(f"{verdict.requests} requests, {len(verdict.failures)} kinds of answers outside the document")
    return 0 if verdict.whole and not verdict.failures else 1


if __name__ == "__main__":
    raise SystemExit(main())
