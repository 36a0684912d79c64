"""Errors of the service, a branch of the tree in `models.errors`. `service.http.problems` maps each to an HTTP answer.

VeridaskError
└── ServiceError
    ├── SettingsError               a setting is unsafe or contradicts another: refuse to start
    ├── CertificatesError           certificates exist already, or the CA for a renewal is missing
    ├── UnknownCaseError            no case has this id
    ├── UnknownStepError            the case's profile has no such step
    ├── UnauthenticatedError        the credential is missing, unknown, revoked or expired
    │   └── WrongSecretError            the client secret does not open this case
    ├── ForbiddenError              the credential does not allow this request
    ├── UnknownKeyError             no API key has this id
    ├── TooManyRequestsError        a rate limit is exceeded
    ├── CaseClosedError             the case accepts no more input
    ├── CaseOpenError               the case is still open, so it cannot be redacted
    ├── NotInReviewError            the case is not waiting for a reviewer
    ├── NoAttemptsError             a step has used all its attempts
    ├── StepTakenError              the step already has its upload
    ├── ConflictError               another request changed the same object first
    ├── IdempotencyError            the Idempotency-Key was used with a different request
    ├── UploadTimeoutError          the body did not arrive in time
    ├── TusRequestError             the request does not follow tus 1.0
    │   └── TusVersionError             the request does not name tus 1.0.0
    ├── UnknownUploadError          the case has no such upload
    ├── UploadEndedError            the resumable upload accepts no more bytes
    ├── UploadOffsetError           the offset sent is not the current one
    ├── UploadBusyError             another request is writing to the resumable upload
    ├── UploadPiecesError           the resumable upload arrived in too many pieces
    ├── ChecksumError               a piece of an upload does not match its checksum
    ├── UnknownEndpointError        no webhook endpoint has this id
    ├── UnknownDeliveryError        the endpoint has no delivery with this id
    ├── EndpointDisabledError       the webhook endpoint is disabled
    ├── TooManyEndpointsError       the limit of webhook endpoints is reached
    ├── WebhookUrlError             webhooks cannot be sent to this URL
    ├── ForgottenError              the personal data of the case was erased
    ├── AuditBrokenError            a line of the audit log is missing or was changed
    ├── StoreRevisionError          the case store's tables have a revision that this build cannot use: refuse to start
    └── UnavailableError            try again later
        ├── StoreUnavailableError       the case store does not answer, is locked or is full
        ├── EvidenceUnavailableError    the evidence cannot be written or read
        ├── KeyMissingError             an encryption key is missing
        ├── SealBrokenError             sealed data was changed, cut off or moved
        ├── BacklogError                too many cases are waiting for a decision
        └── ServerStartError            a server started as a child process did not become ready
"""

from __future__ import annotations

from models.errors import VeridaskError


class ServiceError(VeridaskError):
    """Base of all errors of the service."""

    code = "service_error"


class SettingsError(ServiceError):
    """A setting is unsafe or contradicts another one: the service refuses to start."""

    code = "unsafe_settings"


class CertificatesError(ServiceError):
    """Certificates cannot be made: some exist already, or the CA needed for a renewal is missing."""

    code = "certificates"


class UnknownCaseError(ServiceError):
    """No case has this id."""

    code = "unknown_case"


class UnknownStepError(ServiceError):
    """The profile of the case has no such step."""

    code = "unknown_step"


class UnauthenticatedError(ServiceError):
    """The credential is missing, unknown, revoked or expired."""

    code = "unauthenticated"


class WrongSecretError(UnauthenticatedError):
    """The client secret does not open this case: it belongs to another case, was changed, or has expired."""

    code = "wrong_client_secret"


class ForbiddenError(ServiceError):
    """The credential is valid but does not allow this request."""

    code = "forbidden"


class UnknownKeyError(ServiceError):
    """No API key has this id."""

    code = "unknown_key"


class TooManyRequestsError(ServiceError):
    """An API key, or the requests for one case, exceed the rate limit. retry_after_s: seconds to wait."""

    code = "too_many_requests"

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


class CaseClosedError(ServiceError):
    """The case accepts no more input: it is decided, canceled or expired."""

    code = "case_not_open"


class CaseOpenError(ServiceError):
    """The case is still open, so it cannot be redacted."""

    code = "case_open"


class NotInReviewError(ServiceError):
    """The case is not waiting for a reviewer: it is not in review, or another reviewer was faster."""

    code = "case_not_in_review"


class NoAttemptsError(ServiceError):
    """A step has used all its attempts and cannot be requested again."""

    code = "no_attempts_left"


class StepTakenError(ServiceError):
    """The step already has its upload, and no retake was requested."""

    code = "step_not_open"


class ConflictError(ServiceError):
    """Another request changed the same object first: nothing was stored."""

    code = "conflict"


class IdempotencyError(ServiceError):
    """The Idempotency-Key was already used with a different request."""

    code = "idempotency_key_reused"


class UploadTimeoutError(ServiceError):
    """The body did not arrive within the time allowed."""

    code = "upload_timeout"


class TusRequestError(ServiceError):
    """The request does not follow tus 1.0, or uses an extension that is not supported."""

    code = "invalid_tus_request"


class TusVersionError(TusRequestError):
    """The request does not name tus 1.0.0."""

    code = "unsupported_tus_version"


class UnknownUploadError(ServiceError):
    """The case, or this step of it, has no upload with this id."""

    code = "unknown_upload"


class UploadEndedError(ServiceError):
    """A resumable upload accepts no more bytes: it expired, was ended or rejected, or its case is closed."""

    code = "upload_ended"


class UploadOffsetError(ServiceError):
    """The offset sent is not the current offset of the resumable upload."""

    code = "upload_offset"


class UploadBusyError(ServiceError):
    """Another request is writing to the resumable upload."""

    code = "upload_busy"


class UploadPiecesError(ServiceError):
    """A resumable upload arrived in too many pieces."""

    code = "too_many_pieces"


class ChecksumError(ServiceError):
    """A piece of an upload does not match the checksum sent with it."""

    code = "checksum_mismatch"


class UnknownEndpointError(ServiceError):
    """No webhook endpoint has this id."""

    code = "unknown_webhook_endpoint"


class UnknownDeliveryError(ServiceError):
    """The webhook endpoint has no delivery with this id."""

    code = "unknown_webhook_delivery"


class EndpointDisabledError(ServiceError):
    """The webhook endpoint is disabled because it answered 410 Gone."""

    code = "webhook_endpoint_disabled"


class TooManyEndpointsError(ServiceError):
    """The limit of webhook endpoints is reached."""

    code = "too_many_webhook_endpoints"


class WebhookUrlError(ServiceError):
    """Webhooks cannot be sent to this URL: it is malformed, not https, or leads into a private network."""

    code = "unsafe_webhook_url"


class ForgottenError(ServiceError):
    """The personal data of this case was erased: its data key no longer exists."""

    code = "case_forgotten"


class AuditBrokenError(ServiceError):
    """A line of the audit log is missing, was changed, or differs from its anchor."""

    code = "audit_broken"


class StoreRevisionError(ServiceError):
    """The tables of the case store have a revision that this build cannot use, or cannot be upgraded."""

    code = "store_revision"


class UnavailableError(ServiceError):
    """Try again later; nothing was accepted."""

    code = "unavailable"


class StoreUnavailableError(UnavailableError):
    """The case store does not answer, is locked or is full."""

    code = "store_unavailable"


class EvidenceUnavailableError(UnavailableError):
    """The evidence cannot be written or read."""

    code = "evidence_unavailable"


class KeyMissingError(UnavailableError):
    """The data was sealed with an encryption key that this process does not have."""

    code = "key_missing"


class SealBrokenError(UnavailableError):
    """Sealed data was changed, cut off, or moved to the place of other data."""

    code = "seal_broken"


class BacklogError(UnavailableError):
    """Too many cases are waiting for a decision, so no new ones are accepted."""

    code = "backlog_full"


class ServerStartError(UnavailableError):
    """A server started as a child process did not become ready."""

    code = "server_not_ready"
