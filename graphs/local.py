"""Runs a case in this process, without a cluster, one node after the other: for notebooks and to measure error rates.

It runs the same functions with the same runner as a worker (`run_node`), so measurements here hold for the service.
Nodes whose uploads are missing are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphs.flow import nodes_for, steps_of
from graphs.profile import get_profile
from graphs.records import CaseSpec, Step
from graphs.run import run_node


def run_here(spec: CaseSpec, uploads: Mapping[Step, bytes]) -> dict[str, Any]:
    """Run all nodes that these uploads feed. Returns their values by node name; those of checks are CheckResults.

    uploads: media by step. Models are loaded into this process on first use, about 1 GB in all with their runtimes.
    """
    profile = get_profile(spec.profile)
    values: dict[str, Any] = {f"upload_{step}": media for step, media in uploads.items()}
    for node in nodes_for(profile).values():
        if steps_of(node.name) <= uploads.keys():
            inputs = {parameter: values[source] for parameter, source in node.inputs.items()}
            values[node.name] = run_node(node.name, spec, **inputs)
    return {name: value for name, value in values.items() if not name.startswith("upload_")}
