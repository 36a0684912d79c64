"""The error tree: exceptions for a fault of the system or an unusable media file.

    VeridaskError                     code, detail
    ├── MediaError                    the bytes sent are not usable media (REST: 422 unless noted)
    │   ├── EmptyMediaError           no bytes, no frames, zero length
    │   ├── UndecodableMediaError     damaged, truncated, or no known container
    │   ├── MediaTypeError            not the declared or required type (REST: 415)
    │   └── MediaTooLargeError        bytes, pixels or seconds over the limit (REST: 413)
    ├── WeightsError                  missing weights or a wrong digest: refuse to start
    └── EmbeddingError                embeddings of different networks, or a vector that is not an embedding

`graphs.errors` and `service.http.problems` add their own branches. A finding about the *person* (no face, blurred,
expired) is never an exception: it is a result with a reason code.

Every error here is picklable because it crosses processes: its constructor arguments are its whole state.
"""

from __future__ import annotations


class VeridaskError(Exception):
    """Root of all errors of veridask. `detail` is safe to show: it never contains personal data."""

    code = "internal_error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class MediaError(VeridaskError):
    """The bytes sent are not usable media."""

    code = "undecodable_media"


class EmptyMediaError(MediaError):
    """No bytes, no frames, or zero length."""

    code = "empty_media"


class UndecodableMediaError(MediaError):
    """Damaged, truncated, or in no known container."""

    code = "undecodable_media"


class MediaTypeError(MediaError):
    """The content is not of the declared or the required type."""

    code = "wrong_media_type"


class MediaTooLargeError(MediaError):
    """More bytes, pixels or seconds than the limit."""

    code = "media_too_large"


class WeightsError(VeridaskError):
    """Weights are missing, or their digest differs from the one in the table."""

    code = "weights_rejected"


class EmbeddingError(VeridaskError):
    """Embeddings of different networks would be compared, or a network returned something that is not an embedding."""

    code = "embedding_unusable"
