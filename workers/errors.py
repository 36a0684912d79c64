"""Errors of the worker layer; a branch of the tree in `models.errors`.

VeridaskError
└── ClusterError            the cluster is away or not ready (REST: 503)
    ├── UntestedBuildError  a version of `distributed` that the upload plugin was not tested with
    ├── LabelError          a worker without a label, or with two
    ├── CertificateError    certificate files that cannot be used
    ├── GroupError          a group of workers that cannot be read or changed
    └── WorkerSettingError  a setting of a worker out of bounds, or a device that is not there
"""

from __future__ import annotations

from models.errors import VeridaskError

REFUSAL = "this worker does not start:"
"""What a worker's log says before the reason, in one line; a long traceback of its nanny follows it."""


class ClusterError(VeridaskError):
    """The cluster is away or not ready."""

    code = "cluster_unavailable"


class UntestedBuildError(ClusterError):
    """A version of `distributed` that the upload plugin was not tested with: refuse to start."""

    code = "untested_build"


class LabelError(ClusterError):
    """A worker that offers no label, or both: refuse to start."""

    code = "worker_label"


class CertificateError(ClusterError):
    """Certificate files that cannot be read or do not belong together: refuse to start."""

    code = "certificate_unusable"


class GroupError(ClusterError):
    """A group of workers that cannot be read or changed: scaling is suspended."""

    code = "worker_group"


class WorkerSettingError(ClusterError):
    """A setting of a worker that is out of bounds, or names a device that is not there: refuse to start."""

    code = "worker_setting"
