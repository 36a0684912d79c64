"""Sessions of onnxruntime as everything here runs them: on the CPU, silent, with as many threads as the caller says."""

from __future__ import annotations

import onnxruntime


def session(network: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU that logs nothing; several threads may run it at once. threads: within one run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
