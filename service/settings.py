"""Settings, read once from the environment (`VERIDASK_…`) by the entry points and handed down.

An unsafe combination refuses to start. There are no API keys yet: whoever reaches the port can create cases and read
any case whose id is known. So only loopback is bound unless `VERIDASK_ALLOW_REMOTE=true` says that something in
front (a gateway, a private network) does the access control.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.media import MediaLimits


class Settings(BaseSettings):
    """All that can be set. Times are in seconds, sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="VERIDASK_", frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(
        default=Path("var"),
        title="Data folder",
        description="Case store, evidence and the service's own key live here.",
    )
    database_url: str = Field(
        default="",
        title="Case store",
        description="SQLAlchemy URL of an async driver; empty means SQLite in the data folder.",
    )
    host: str = Field(default="127.0.0.1", title="Address to bind", description="An IP address, or localhost.")
    port: int = Field(default=8080, ge=0, le=65535, title="Port to bind", description="0 takes a free one.")
    allow_remote: bool = Field(
        default=False,
        title="Bind beyond loopback",
        description="There are no API keys yet; true says that access control is done in front of this service.",
    )
    scheduler: str = Field(
        default="",
        title="Dask scheduler",
        description="Address such as tcp://10.0.0.5:8786; empty means that `serve` starts its own cluster.",
    )
    cluster_timeout_s: float = Field(
        default=30.0, gt=0, le=600, title="Cluster time-out", description="Longest wait for an answer of the scheduler."
    )
    cpu_threads: int = Field(
        default=2, ge=1, le=256, title="Threads of the embedded CPU worker", description="One per core."
    )
    gpu_threads: int = Field(
        default=2,
        ge=1,
        le=256,
        title="Threads of the embedded GPU worker",
        description="Bounds the batch across cases.",
    )
    max_upload_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, le=2**31, title="Largest upload", description="More is answered with 413."
    )
    max_media_seconds: float = Field(
        default=30.0,
        gt=0,
        le=600,
        title="Longest video",
        description="By the container's header; more is answered with 413.",
    )
    max_media_side: int = Field(
        default=4096,
        ge=64,
        le=16384,
        title="Largest width or height",
        description="In pixels; more is answered with 413.",
    )
    upload_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        title="Upload time-out",
        description="From the request to the last byte of its body.",
    )
    min_free_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        title="Disk reserve",
        description="With less free, uploads are answered with 503.",
    )
    probe_processes: int = Field(
        default=2,
        ge=1,
        le=16,
        title="Probe processes",
        description="Child processes that look at media before they are taken.",
    )
    probe_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=120,
        title="Probe time-out",
        description="Media that takes longer to open is undecodable.",
    )
    decision_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        title="Decision deadline",
        description="From the last upload; past it a human reviews.",
    )
    sweep_interval_s: float = Field(
        default=5.0, gt=0, le=3600, title="Sweep interval", description="How often expiry and deadlines are looked at."
    )
    event_ping_s: float = Field(
        default=15.0,
        gt=0,
        le=300,
        title="Event stream ping",
        description="Silence after which a comment keeps a stream open.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", title="Log level", description="Of the JSON lines on standard error."
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines and there are no API keys yet; "
                "bind 127.0.0.1, or set VERIDASK_ALLOW_REMOTE=true if access control is done in front"
            )
        return self

    @property
    def media_limits(self) -> MediaLimits:
        """The bounds that the probe holds media to."""
        return MediaLimits(
            max_bytes=self.max_upload_bytes, max_seconds=self.max_media_seconds, max_side=self.max_media_side
        )

    @property
    def store_url(self) -> str:
        """The case store's SQLAlchemy URL."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir.resolve() / 'cases.sqlite'}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to anything
