"""Where a task runs: its label, said where the function is defined, and the resource annotation made from it."""

from __future__ import annotations

from typing import Literal

from workers.errors import LabelError

Label = Literal["CPU", "GPU"]
CPU: Label = "CPU"
GPU: Label = "GPU"
LABELS: tuple[Label, ...] = (CPU, GPU)

UPLOAD_RESOURCE = "UPLOAD"
"""What an upload's placeholder task asks for. No worker offers it, so the task waits for its scatter."""

RETRIES = 2
"""A task is tried again when it raised, which a node's runner lets happen only for the failures of a system."""

LOW_PRIORITY = -10
"""Priority of work that nobody waits for, below the default 0."""


def label_of(resources: dict[str, float]) -> Label:
    """The one label that a worker offers. Raises LabelError for none, both, or `UPLOAD`.

    With both, a CPU task waits behind GPU tasks: a worker looks only at the top of its queue of constrained tasks.
    """
    offered = [label for label in LABELS if resources.get(label, 0) > 0]
    if len(offered) != 1 or UPLOAD_RESOURCE in resources:
        raise LabelError(
            f"a worker must offer exactly one of CPU and GPU, this one offers {sorted(resources) or 'nothing'}; "
            'start it with --resources "CPU=<threads>" or --resources "GPU=<tasks at once>"'
        )
    return offered[0]
