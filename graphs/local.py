"""A case without a cluster: its nodes one after the other in this process, for notebooks and for error rates.

The same functions under the same runner as on a worker (`run_node`), so that what is measured here is what decides
there. Nothing waits here for uploads: what they do not feed is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphs.flow import nodes_for, steps_of
from graphs.profile import profile
from graphs.records import CaseSpec, Step
from graphs.run import run_node


def run_here(spec: CaseSpec, uploads: Mapping[Step, bytes]) -> dict[str, Any]:
    """Values by node name of all nodes that these uploads feed; those of checks are CheckResults.

    uploads: media by step. Models are loaded into this process at first use, about 1 GB in all with their runtimes.
    """
    held = profile(spec.profile)
    values: dict[str, Any] = {f"upload_{step}": media for step, media in uploads.items()}
    for node in nodes_for(held).values():
        if steps_of(node.name) <= uploads.keys():
            inputs = {parameter: values[source] for parameter, source in node.inputs.items()}
            values[node.name] = run_node(node.name, spec, **inputs)
    return {name: value for name, value in values.items() if not name.startswith("upload_")}
