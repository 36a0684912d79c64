"""Errors of the worker layer; a branch of the tree in `models.errors`.

VeridaskError
└── ClusterError            the cluster is away or not ready (REST: 503)
    ├── UntestedBuildError  a version of `distributed` that the upload plugin was not tested with
    └── LabelError          a worker without a label, or with two
"""

from __future__ import annotations

from models.errors import VeridaskError


class ClusterError(VeridaskError):
    """The cluster is away or not ready."""

    code = "cluster_unavailable"


class UntestedBuildError(ClusterError):
    """A version of `distributed` that the upload plugin was not tested with: refuse to start."""

    code = "untested_build"


class LabelError(ClusterError):
    """A worker that offers no label, or both: refuse to start."""

    code = "worker_label"
