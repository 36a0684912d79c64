"""The settings of how much the service accepts, how often, and how long it waits. `Settings` has the others.

Combinations that refuse to start are in `rules`.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from models.media.decoding import WIDEST, MediaLimits


class Limits(BaseSettings):
    """Times are in seconds, sizes in bytes unless the name says otherwise."""

    max_upload_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=WIDEST.max_bytes,
        title="Largest upload",
        description="In bytes. Larger uploads are answered with 413. Raise it for cameras with a high bit rate.",
    )
    max_media_seconds: float = Field(
        default=30.0,
        gt=0,
        le=WIDEST.max_seconds,
        title="Longest video",
        description="In seconds, by the container's header. Longer videos are answered with 413.",
    )
    max_media_side: int = Field(
        default=4096,
        ge=64,
        le=WIDEST.max_side,
        title="Largest width or height",
        description="Of pictures and videos, in pixels. Larger media are answered with 413.",
    )
    client_secret_s: int = Field(
        default=3600,
        ge=60,
        le=86400,
        title="Client secret lifetime",
        description="In seconds. An API key can create another secret later. Raise it if people need longer.",
    )
    key_rate: float = Field(
        default=100.0,
        gt=0,
        le=100_000,
        title="Rate limit of an API key",
        description="Requests per second; short bursts may be ten times as large. More are answered with 429. Each API "
        "process counts on its own.",
    )
    case_rate: float = Field(
        default=20.0,
        gt=0,
        le=100_000,
        title="Rate limit of a case",
        description="Requests per second about one case, with any credential; the same rules as for API keys.",
    )
    upload_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        title="Upload timeout",
        description="Longest time from request to last byte of its body, in seconds. Raise it for slow networks.",
    )
    resumable_s: int = Field(
        default=3600,
        ge=1,
        le=604_800,
        title="Resumable upload lifetime",
        description="An unfinished upload is removed this long after its last bytes, in seconds.",
    )
    min_free_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        title="Disk reserve",
        description="Free space to keep on the disk of the data folder, in bytes. With less, uploads are answered with "
        "503.",
    )
    max_decoding: int = Field(
        default=16,
        ge=1,
        le=4096,
        title="Uploads on a cluster",
        description="Uploads that this process hands to one cluster at once. Each needs up to 100 MB of worker memory "
        "until its quality is known: lower it if workers run out of memory.",
    )
    max_backlog: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        title="Largest backlog",
        description="Cases that may wait for a decision. With more, new cases are answered with 503. Lower it to keep "
        "waits short.",
    )
    probe_processes: int = Field(
        default=2,
        ge=1,
        le=16,
        title="Probe processes",
        description="Child processes that open media before an upload is accepted. Raise it if uploads wait for them.",
    )
    probe_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=120,
        title="Probe timeout",
        description="In seconds. Media that takes longer to open is rejected as undecodable.",
    )
    probe_memory_bytes: int = Field(
        default=512 * 1024 * 1024,
        ge=256 * 1024 * 1024,
        le=2**34,
        title="Probe memory",
        description="Memory of a probe process in bytes, in addition to twice the size of the media. Media that needs "
        "more is rejected as undecodable. The first frame of 16 megapixels needs up to 360 MB.",
    )
    decision_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86400,
        title="Decision deadline",
        description="Longest time from the last upload to the decision, in seconds. After it the case goes to review.",
    )
    sweep_interval_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        title="Sweep interval",
        description="Time between two checks of expiry and deadlines, in seconds. Rarely needs a change.",
    )
    event_ping_s: float = Field(
        default=15.0,
        gt=0,
        le=300,
        title="Event stream ping",
        description="A comment keeps an event stream open after this many seconds of silence. Keep it below the idle "
        "timeout of your proxy.",
    )
    drain_s: float = Field(
        default=0.0,
        ge=0,
        le=300,
        title="Drain time",
        description="After SIGTERM, `/readyz` answers 503 for this many seconds while everything else works, then the "
        "port closes. Set it to the time that your load balancer needs to notice.",
    )
    stop_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        title="Stop time",
        description="Seconds that running requests, such as uploads, have to finish after the port closes; then "
        "they are aborted.",
    )

    @property
    def media_limits(self) -> MediaLimits:
        """The limits that the probe enforces on media."""
        return MediaLimits(
            max_bytes=self.max_upload_bytes, max_seconds=self.max_media_seconds, max_side=self.max_media_side
        )
