"""Settings, read once from the environment (`VERIDASK_…`) by the entry points and handed down.

An unsafe combination refuses to start. The service speaks plain HTTP, and keys and media of people travel with it: so
only loopback is bound unless `VERIDASK_ALLOW_REMOTE=true` says that TLS ends in front of it. A scheduler on another
machine is joined with TLS unless `VERIDASK_ALLOW_PLAINTEXT=true` says that everyone on that network is trusted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.media.decoding import WIDEST, MediaLimits
from service.crypto.client_secrets import SERVICE_KEY_BYTES
from service.crypto.keyring import keyring_of
from service.errors import SettingsError
from service.settings.hosts import is_loopback
from service.settings.rules import require_readable, require_safe_evidence, require_safe_origin, require_safe_scheduler
from service.vocabulary import Migrations
from workers.transport import TlsFiles

MAIN_CELL = "main"
_CELL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Settings(BaseSettings):
    """All that can be set. Times are in seconds, sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="VERIDASK_", frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(
        default=Path("var"),
        title="Data folder",
        description="Case store, evidence and the service's own keys live here.",
    )
    database_url: str = Field(
        default="",
        title="Case store",
        description="SQLAlchemy URL such as postgresql+psycopg://…; empty means SQLite in the data folder.",
    )
    migrations: Migrations = Field(
        default="at_start", title="Upgrades of the tables", description="With by_command an older store is refused."
    )
    evidence_url: str = Field(
        default="",
        title="Evidence",
        description="Object storage: s3://bucket/folder, gs://… or az://…, with the credentials that its own tools "
        "read (AWS_…, GOOGLE_…, AZURE_…); empty means a folder in the data folder.",
    )
    evidence_endpoint: str = Field(
        default="",
        title="S3 service",
        description="URL of an S3 service other than Amazon's: https, or http on loopback.",
    )
    service_key_file: Path | None = Field(
        default=None,
        title="Service key",
        description="File of 32 random bytes that client secrets come from, the same for all API processes; empty "
        "means one that is made in the data folder.",
    )
    encryption_keys_file: Path | None = Field(
        default=None,
        title="Encryption keys",
        description="File of keys that seal evidence and case store, one a line as id:base64 of 32 random bytes, the "
        "same for all API processes; the first one seals, the others only open. Empty means one that is made in the "
        "data folder.",
    )
    host: str = Field(default="127.0.0.1", title="Address to bind", description="An IP address, or localhost.")
    port: int = Field(default=8080, ge=0, le=65535, title="Port to bind", description="0 takes a free one.")
    sandbox: bool = Field(
        default=False,
        title="Sandbox",
        description="Take cases of sandbox profiles, in which nothing is checked; off where people are verified.",
    )
    allow_remote: bool = Field(
        default=False,
        title="Bind beyond loopback",
        description="Keys and media would travel in plain text; true says that TLS ends in front of this service.",
    )
    scheduler: str = Field(
        default="",
        title="Dask scheduler",
        description="Address such as tls://10.0.0.5:8786, or several cells as a=tls://…,b=tls://…; empty means that "
        "`serve` starts its own cluster on loopback.",
    )
    tls_ca: Path | None = Field(
        default=None,
        title="CA of the cluster",
        description="PEM file; a tls:// scheduler wants it, a certificate and its key. `veridask certs` makes them.",
    )
    tls_cert: Path | None = Field(
        default=None, title="Certificate towards the cluster", description="PEM file of this process."
    )
    tls_key: Path | None = Field(
        default=None, title="Key of that certificate", description="PEM file; must not be readable by everyone."
    )
    allow_plaintext: bool = Field(
        default=False,
        title="Scheduler without TLS",
        description="Join a tcp:// scheduler beyond loopback; true says that everyone on that network is trusted.",
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
    max_cpu_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        title="Most CPU workers of the embedded cluster",
        description="Above 1, workers are started and retired by load. Each takes about 0.5 to 1.2 GiB.",
    )
    max_gpu_workers: int = Field(
        default=1, ge=1, le=64, title="Most GPU workers of the embedded cluster", description="As for CPU workers."
    )
    scale_wait_s: float = Field(
        default=2.0,
        gt=0,
        le=600,
        title="Wait that scales up",
        description="One more worker when the oldest task that could run has waited longer.",
    )
    scale_quiet_s: float = Field(
        default=60.0,
        gt=0,
        le=86400,
        title="Quiet time that scales down",
        description="One idle worker less after each such time in which one less would have done.",
    )
    max_upload_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=WIDEST.max_bytes,
        title="Largest upload",
        description="More is answered with 413.",
    )
    max_media_seconds: float = Field(
        default=30.0,
        gt=0,
        le=WIDEST.max_seconds,
        title="Longest video",
        description="By the container's header; more is answered with 413.",
    )
    max_media_side: int = Field(
        default=4096,
        ge=64,
        le=WIDEST.max_side,
        title="Largest width or height",
        description="In pixels; more is answered with 413.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        title="Web pages that may ask",
        description='Origins of pages whose scripts may ask from a browser, as a JSON list: ["https://app.example"]; '
        "none by default. http is for this machine alone.",
    )
    public_origin: str = Field(
        default="",
        title="Public origin",
        description="Where persons' devices reach this service, such as https://verify.example: links to the capture "
        "page begin with it. Empty: links are given only to who asks on loopback.",
    )
    client_secret_s: int = Field(
        default=3600,
        ge=60,
        le=86400,
        title="Life of a client secret",
        description="Another one can be had with an API key.",
    )
    key_rate: float = Field(
        default=100.0,
        gt=0,
        le=100_000,
        title="Requests a second of an API key",
        description="Ten times as many for a moment; more is answered with 429. Counted in each API process.",
    )
    case_rate: float = Field(
        default=20.0,
        gt=0,
        le=100_000,
        title="Requests a second about one case",
        description="As for keys.",
    )
    upload_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        title="Upload time-out",
        description="From the request to the last byte of its body.",
    )
    resumable_s: int = Field(
        default=3600,
        ge=1,
        le=604_800,
        title="Life of an unfinished resumable upload",
        description="From its last bytes on; then they are removed.",
    )
    min_free_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        title="Disk reserve",
        description="With less free, uploads are answered with 503.",
    )
    max_decoding: int = Field(
        default=16,
        ge=1,
        le=4096,
        title="Uploads on their way",
        description="Handed to one cell at once by this process; each takes up to 100 MB until its quality is known.",
    )
    max_backlog: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        title="Longest backlog",
        description="Cases that may wait for their decision; with more, new ones are answered with 503.",
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
    probe_memory_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=256 * 1024 * 1024,
        le=2**34,
        title="Memory of a probe process",
        description="Beside twice the media itself; media that takes more to open is undecodable. The first frame of "
        "16 megapixels takes up to 360 MB.",
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
    drain_s: float = Field(
        default=0.0,
        ge=0,
        le=300,
        title="Drain time",
        description="After SIGTERM, `/readyz` says 503 for so long before the port closes, and all else goes on.",
    )
    stop_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        title="Time to finish",
        description="For requests that are under way then, such as uploads; what takes longer is broken off.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        title="Webhooks into private networks",
        description="Let webhook URLs name hosts that are not on the public Internet; true says that all who may make "
        "endpoints are trusted.",
    )
    webhook_timeout_s: float = Field(
        default=10.0, gt=0, le=60, title="Webhook time-out", description="For one attempt, from look-up to answer."
    )
    webhook_retries_s: tuple[Annotated[float, Field(gt=0, le=86400)], ...] = Field(
        default=(5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800),
        min_length=1,
        max_length=32,
        title="Webhook retries",
        description="Waits before each further attempt, a fifth more or less, as a JSON list; then it is given up.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", title="Log level", description="Of the JSON lines on standard error."
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if len(self.cells) != len(self.scheduler.split(",")) or not all(map(_CELL.fullmatch, self.cells)):
            raise ValueError(
                "scheduler is one address, or name=address,name=address with a different name for each cell, "
                "of small letters, digits and hyphens"
            )
        if not self.allow_remote and not self.binds_loopback:
            raise ValueError(
                f"host {self.host} can be reached from other machines, and keys and media would travel in plain text; "
                "bind 127.0.0.1, or set VERIDASK_ALLOW_REMOTE=true if TLS ends in front"
            )
        for address in self.cells.values() if self.scheduler else ():
            require_safe_scheduler(
                address, self.tls_ca, self.tls_cert, self.tls_key, allow_plaintext=self.allow_plaintext
            )
        require_safe_evidence(self.evidence_url, self.evidence_endpoint)
        for origin in self.cors_origins:
            require_safe_origin("VERIDASK_CORS_ORIGINS", origin)
        if self.public_origin:
            require_safe_origin("VERIDASK_PUBLIC_ORIGIN", self.public_origin)
        if self.service_key_file is not None:
            require_readable("VERIDASK_SERVICE_KEY_FILE", self.service_key_file, secret=True)
            if self.service_key_file.stat().st_size != SERVICE_KEY_BYTES:
                raise ValueError(
                    f"VERIDASK_SERVICE_KEY_FILE: {self.service_key_file} has not {SERVICE_KEY_BYTES} bytes"
                )
        if self.encryption_keys_file is not None:
            try:
                keyring_of(self.encryption_keys_file, self.data_dir)
            except SettingsError as error:
                raise ValueError(f"VERIDASK_ENCRYPTION_KEYS_FILE: {error.detail}") from error
        if self.scheduler and max(self.max_cpu_workers, self.max_gpu_workers) > 1:
            raise ValueError(
                "VERIDASK_MAX_CPU_WORKERS and VERIDASK_MAX_GPU_WORKERS are for the cluster that `serve` starts; "
                "the workers of the scheduler named are scaled by `veridask autoscale`"
            )
        return self

    @property
    def cluster_tls(self) -> TlsFiles | None:
        """The certificate files for the schedulers; None where they are reached without TLS."""
        if self.tls_ca and self.tls_cert and self.tls_key:
            return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)
        return None

    @property
    def media_limits(self) -> MediaLimits:
        """The bounds that the probe holds media to."""
        return MediaLimits(
            max_bytes=self.max_upload_bytes, max_seconds=self.max_media_seconds, max_side=self.max_media_side
        )

    @property
    def binds_loopback(self) -> bool:
        """Whether nobody on another machine reaches the service."""
        return is_loopback(self.host)

    @property
    def cells(self) -> dict[str, str]:
        """Addresses of the schedulers by the names of their cells. One without a name is the cell `main`."""
        named = (part.strip().rpartition("=") for part in self.scheduler.split(","))
        return {name.strip() or MAIN_CELL: address.strip() for name, _, address in named}

    @property
    def store_url(self) -> str:
        """The case store's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'cases.sqlite'}"
