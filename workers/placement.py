"""Where a task runs: its label, declared at its function, and the resources and priority derived from it."""

from __future__ import annotations

from typing import Literal

from workers.errors import LabelError

Label = Literal["CPU", "GPU"]
CPU: Label = "CPU"
GPU: Label = "GPU"
LABELS: tuple[Label, ...] = (CPU, GPU)

UPLOAD_RESOURCE = "UPLOAD"
"""Resource that the placeholder task of an upload asks for. No worker offers it, so the task waits for its scatter."""

RETRIES = 2
"""How often a task that raised is retried. The runner of nodes lets only system failures raise."""

LOW_PRIORITY = -10
"""Priority of work that nobody waits for; the default is 0."""


def label_of(resources: dict[str, float]) -> Label:
    """The label that a worker offers. Raises LabelError if it offers none, both, or `UPLOAD`.

    With both labels, CPU tasks would wait behind GPU tasks: a worker looks only at the first of its tasks that ask for
    resources.
    """
    offered = [label for label in LABELS if resources.get(label, 0) > 0]
    if len(offered) != 1 or UPLOAD_RESOURCE in resources:
        raise LabelError(
            f"a worker must offer exactly one of CPU and GPU, this one offers {sorted(resources) or 'nothing'}; "
            'start it with --resources "CPU=<threads>" or --resources "GPU=<tasks at once>"'
        )
    return offered[0]
