"""Opens onnxruntime sessions as all modules here need them: on the CPU, no log output, a given number of threads."""

from __future__ import annotations

import onnxruntime


def session(network: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU without log output; several threads may run it at once. threads: used within one run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
