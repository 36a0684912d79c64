"""The settings, read once from the environment (`VERIDASK_…`) by the entry points and passed on.

The service refuses to start with an unsafe combination. It speaks plain HTTP, which carries API keys and people's
media, so it binds loopback only, unless `VERIDASK_ALLOW_REMOTE=true` confirms that a proxy in front of it terminates
TLS. It joins a scheduler on another machine with TLS only, unless `VERIDASK_ALLOW_PLAINTEXT=true` confirms that
everyone on that network is trusted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from service.crypto.client_secrets import SERVICE_KEY_BYTES
from service.crypto.keyring import keyring_of
from service.errors import SettingsError
from service.settings.hosts import is_loopback
from service.settings.limits import Limits
from service.settings.rules import require_readable, require_safe_evidence, require_safe_origin, require_safe_scheduler
from service.vocabulary import Migrations
from workers.transport import TlsFiles

MAIN_CELL = "main"
_CELL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Settings(Limits):
    """All settings. Times are in seconds and sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="VERIDASK_", frozen=True, extra="forbid", env_ignore_empty=True)

    data_dir: Path = Field(
        default=Path("var"),
        title="Data folder",
        description="Holds the case store, the evidence and the service's own keys. Set it to a folder with backups.",
    )
    database_url: str = Field(
        default="",
        title="Case store",
        description="SQLAlchemy URL of the database, such as postgresql+psycopg://…. Empty: SQLite in the data folder. "
        "Set it to run several API processes.",
    )
    migrations: Migrations = Field(
        default="at_start",
        title="Database upgrades",
        description="at_start upgrades the tables when the service starts. by_command refuses to start with old tables "
        "until you run `veridask db upgrade`; use it if the service may not change tables.",
    )
    evidence_url: str = Field(
        default="",
        title="Evidence storage",
        description="Object storage for media: s3://bucket/folder, gs://… or az://…, with credentials from the usual "
        "variables (AWS_…, GOOGLE_…, AZURE_…). Empty: a folder in the data folder. Set it to run API processes on "
        "several machines.",
    )
    evidence_endpoint: str = Field(
        default="",
        title="S3 endpoint",
        description="URL of an S3 service other than Amazon's: https, or http on loopback. Empty: Amazon's.",
    )
    service_key_file: Path | None = Field(
        default=None,
        title="Service key",
        description="File with 32 random bytes from which client secrets are derived. Empty: a file that is created in "
        "the data folder. Set it if API processes have different data folders: all need the same key.",
    )
    encryption_keys_file: Path | None = Field(
        default=None,
        title="Encryption keys",
        description="File with the keys that encrypt evidence and case store, one per line as id:base64 of 32 random "
        "bytes. The first key encrypts, the others only decrypt. Empty: a file that is created in the data folder. Set "
        "it to rotate keys, or if API processes have different data folders: all need the same file.",
    )
    host: str = Field(
        default="127.0.0.1",
        title="Bind address",
        description="IP address, or localhost. Any other than loopback also needs VERIDASK_ALLOW_REMOTE.",
    )
    port: int = Field(default=8080, ge=0, le=65535, title="Bind port", description="TCP port. 0 picks a free one.")
    sandbox: bool = Field(
        default=False,
        title="Sandbox",
        description="Accept cases of sandbox profiles, which check nothing. Set true for integration tests only, never "
        "where people are verified.",
    )
    allow_remote: bool = Field(
        default=False,
        title="Bind beyond loopback",
        description="The service speaks plain HTTP. Set true only if a proxy in front of it terminates TLS; otherwise "
        "API keys and media travel unencrypted.",
    )
    scheduler: str = Field(
        default="",
        title="Dask scheduler",
        description="Address such as tls://10.0.0.5:8786, or several clusters (cells) as a=tls://…,b=tls://…. Empty: "
        "`serve` starts its own cluster on loopback.",
    )
    tls_ca: Path | None = Field(
        default=None,
        title="Cluster CA",
        description="PEM file of the cluster's certificate authority. A tls:// scheduler needs this, a certificate and "
        "its key; `veridask certs` makes all three.",
    )
    tls_cert: Path | None = Field(
        default=None,
        title="Cluster certificate",
        description="PEM file of the certificate that this process presents to the cluster. Needed for tls://.",
    )
    tls_key: Path | None = Field(
        default=None,
        title="Cluster key",
        description="PEM file of the key of that certificate; not readable by everyone. Needed for tls://.",
    )
    allow_plaintext: bool = Field(
        default=False,
        title="Scheduler without TLS",
        description="Allow a tcp:// scheduler beyond loopback. Set true only if you trust everyone on that network: "
        "anyone who reaches the scheduler can read cases and run code.",
    )
    cluster_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=600,
        title="Cluster timeout",
        description="Longest wait for an answer of the scheduler, in seconds. Raise it for a slow network.",
    )
    cpu_threads: int = Field(
        default=2,
        ge=1,
        le=256,
        title="Embedded CPU worker threads",
        description="Tasks that each CPU worker of the embedded cluster runs at once. Set it to the number of cores.",
    )
    gpu_threads: int = Field(
        default=2,
        ge=1,
        le=256,
        title="Embedded GPU worker threads",
        description="Tasks that each GPU worker of the embedded cluster runs at once; limits batches across cases. "
        "Raise it if a GPU is not fully used.",
    )
    max_cpu_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        title="Embedded CPU workers",
        description="Most CPU workers of the embedded cluster. Above 1, they start and stop with the load. Each needs "
        "about 0.5 to 1.2 GiB of memory.",
    )
    max_gpu_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        title="Embedded GPU workers",
        description="Most GPU workers of the embedded cluster, with the same rules as for CPU workers.",
    )
    scale_wait_s: float = Field(
        default=2.0,
        gt=0,
        le=600,
        title="Scale-up wait",
        description="Start another worker when the oldest runnable task has waited longer than this, in seconds. Lower "
        "it for faster decisions under load.",
    )
    scale_quiet_s: float = Field(
        default=60.0,
        gt=0,
        le=86400,
        title="Scale-down time",
        description="Stop an idle worker after each period in which one fewer would have been enough, in seconds. "
        "Raise it if workers start and stop too often.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        max_length=64,
        title="CORS origins",
        description='Origins whose pages may call the API from a browser, as a JSON list: ["https://app.example"]. '
        "http:// is allowed for this machine only. Set it if your own web page calls the API.",
    )
    public_origin: str = Field(
        default="",
        title="Public origin",
        description="Origin at which people's devices reach this service, such as https://verify.example. Links to the "
        "capture page begin with it. Empty: only requests on loopback get a link. Set it to send people links.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        title="Webhooks into private networks",
        description="Allow webhook URLs whose host is not on the public Internet. Set true only if you trust everyone "
        "who can create endpoints: they could reach hosts in your network.",
    )
    webhook_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        title="Webhook timeout",
        description="Longest time of one attempt in seconds, from the DNS lookup to the end of the answer.",
    )
    webhook_retries_s: tuple[Annotated[float, Field(gt=0, le=86400)], ...] = Field(
        default=(5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800),
        min_length=1,
        max_length=32,
        title="Webhook retries",
        description="Waits before each retry in seconds, ±20 %, as a JSON list. After the last retry the delivery has "
        "failed.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        title="Log level",
        description="Lowest level of the JSON log lines on standard error. Set debug to find an error.",
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if len(self.cells) != len(self.scheduler.split(",")) or not all(map(_CELL.fullmatch, self.cells)):
            raise ValueError(
                "VERIDASK_SCHEDULER cannot be read. Write one address, or name=address,name=address with a different "
                "name for each cell, in lower-case letters, digits and hyphens."
            )
        if not self.allow_remote and not self.binds_loopback:
            raise ValueError(
                f"The host {self.host} can be reached from other machines, and API keys and media would travel in "
                "plain text. Bind 127.0.0.1, or set VERIDASK_ALLOW_REMOTE=true if a proxy in front terminates TLS."
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
                    f"VERIDASK_SERVICE_KEY_FILE: {self.service_key_file} must have exactly {SERVICE_KEY_BYTES} bytes. "
                    "Write that many random bytes into it."
                )
        if self.encryption_keys_file is not None:
            try:
                keyring_of(self.encryption_keys_file, self.data_dir)
            except SettingsError as error:
                raise ValueError(f"VERIDASK_ENCRYPTION_KEYS_FILE: {error.detail}") from error
        if self.scheduler and max(self.max_cpu_workers, self.max_gpu_workers) > 1:
            raise ValueError(
                "VERIDASK_MAX_CPU_WORKERS and VERIDASK_MAX_GPU_WORKERS only apply to the cluster that `serve` starts, "
                "but VERIDASK_SCHEDULER names another one. Unset them and scale its workers with `veridask autoscale`."
            )
        return self

    @property
    def cluster_tls(self) -> TlsFiles | None:
        """The certificate files for the schedulers; None without TLS."""
        if self.tls_ca and self.tls_cert and self.tls_key:
            return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)
        return None

    @property
    def binds_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def cells(self) -> dict[str, str]:
        """Addresses of the schedulers by the name of their cell. A single address without a name is the cell `main`."""
        named = (part.strip().rpartition("=") for part in self.scheduler.split(","))
        return {name.strip() or MAIN_CELL: address.strip() for name, _, address in named}

    @property
    def store_url(self) -> str:
        """The case store's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'cases.sqlite'}"
