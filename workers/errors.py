"""Errors of the worker layer; a branch of the tree in `models.errors`.

VeridaskError
└── ClusterError            the cluster is unreachable or not ready (REST: 503)
    ├── UntestedBuildError  the upload plugin was not tested with this version of `distributed`
    ├── LabelError          a worker without a label, or with both
    ├── CertificateError    certificate files that cannot be used
    ├── GroupError          a group of workers cannot be read or changed
    └── WorkerSettingError  a setting of a worker is out of bounds, or its device is missing
"""

from __future__ import annotations

from models.errors import VeridaskError

REFUSAL = "this worker does not start:"
"""Starts the line of a worker's log that gives the reason. A long traceback of its nanny follows."""


class ClusterError(VeridaskError):
    """The cluster is unreachable or not ready."""

    code = "cluster_unavailable"


class UntestedBuildError(ClusterError):
    """The upload plugin was not tested with this version of `distributed`: refuse to start."""

    code = "untested_build"


class LabelError(ClusterError):
    """A worker offers no label, or both: refuse to start."""

    code = "worker_label"


class CertificateError(ClusterError):
    """Certificate files cannot be read or do not match: refuse to start."""

    code = "certificate_unusable"


class GroupError(ClusterError):
    """A group of workers cannot be read or changed: scaling is suspended."""

    code = "worker_group"


class WorkerSettingError(ClusterError):
    """A setting of a worker is out of bounds, or names a missing device: refuse to start."""

    code = "worker_setting"
