"""Errors of the service; a branch of the tree in `models.errors`. `service.http.problems` says what each is over HTTP.

VeridaskError
└── ServiceError
    ├── SettingsError               a setting that is unsafe or contradicts another: refuse to start
    ├── CertificatesError           certificates are there already, or a renewal misses its CA
    ├── UnknownCaseError            no case of that id
    ├── UnknownStepError            the case's profile has no such step
    ├── UnauthenticatedError        no credential, or one that is unknown, revoked or over
    │   └── WrongSecretError            a client secret that does not open this case
    ├── ForbiddenError              a credential that may not do this
    ├── UnknownKeyError             no API key of that id
    ├── TooManyRequestsError        a key or a case asks too often
    ├── CaseClosedError             the case takes no more input
    ├── CaseOpenError               the case has not ended: nothing of it is erased
    ├── NotInReviewError            the case waits for no person's decision
    ├── NoAttemptsError             a step was uploaded as often as it may be
    ├── StepTakenError              the step has its upload already
    ├── ConflictError               another request changed the same thing first
    ├── IdempotencyError            the same Idempotency-Key with another request
    ├── UploadTimeoutError          the body did not arrive in time
    ├── TusRequestError             a request that is none of tus 1.0
    │   └── TusVersionError             of another version of tus
    ├── UnknownUploadError          the case has no such upload
    ├── UploadEndedError            nothing more is taken for a resumable upload
    ├── UploadOffsetError           a resumable upload goes on at another byte
    ├── UploadBusyError             another request writes to a resumable upload
    ├── UploadPiecesError           a resumable upload came in too many pieces
    ├── ChecksumError               a piece of an upload has not the checksum that came with it
    ├── UnknownEndpointError        no webhook endpoint of that id
    ├── UnknownDeliveryError        the endpoint has no delivery of that id
    ├── EndpointDisabledError       nothing is sent to the endpoint
    ├── TooManyEndpointsError       no more webhook endpoints are made
    ├── WebhookUrlError             no webhook goes to that URL
    ├── ForgottenError              what spoke of the person was erased
    ├── AuditBrokenError            a line of the audit log is missing or was changed
    ├── StoreRevisionError          the tables of the case store are of another revision: refuse to start
    └── UnavailableError            try again later
        ├── StoreUnavailableError       the case store is away, locked or full
        ├── EvidenceUnavailableError    the evidence cannot be written or read
        ├── KeyMissingError             sealed by an encryption key that is not there
        ├── SealBrokenError             sealed data was changed, cut off or put in another's place
        ├── BacklogError                too many cases wait for their decision
        └── ServerStartError            a server started as a child process did not become ready
"""

from __future__ import annotations

from models.errors import VeridaskError


class ServiceError(VeridaskError):
    """Something of the service cannot go on."""

    code = "service_error"


class SettingsError(ServiceError):
    """A setting that is unsafe or contradicts another."""

    code = "unsafe_settings"


class CertificatesError(ServiceError):
    """Certificates cannot be made here: some are there already, or a renewal misses its CA."""

    code = "certificates"


class UnknownCaseError(ServiceError):
    """No case of that id."""

    code = "unknown_case"


class UnknownStepError(ServiceError):
    """The case's profile has no such step."""

    code = "unknown_step"


class UnauthenticatedError(ServiceError):
    """No credential, or one that is unknown, revoked or over."""

    code = "unauthenticated"


class WrongSecretError(UnauthenticatedError):
    """A client secret that does not open this case: it is of another one, was changed, or its time is over."""

    code = "wrong_client_secret"


class ForbiddenError(ServiceError):
    """A credential that may not do this."""

    code = "forbidden"


class UnknownKeyError(ServiceError):
    """No API key of that id."""

    code = "unknown_key"


class TooManyRequestsError(ServiceError):
    """A key or a case asks too often. retry_after_s: when to come again."""

    code = "too_many_requests"

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.args = (detail, retry_after_s)
        self.retry_after_s = retry_after_s


class CaseClosedError(ServiceError):
    """The case takes no more input: it is decided, canceled or expired."""

    code = "case_not_open"


class CaseOpenError(ServiceError):
    """The case has not ended: nothing of it is erased."""

    code = "case_open"


class NotInReviewError(ServiceError):
    """The case waits for no person's decision: it is not in review, or another reviewer was faster."""

    code = "case_not_in_review"


class NoAttemptsError(ServiceError):
    """A step was uploaded as often as it may be: it cannot be asked for again."""

    code = "no_attempts_left"


class StepTakenError(ServiceError):
    """The step has its upload already and no retake was asked for."""

    code = "step_not_open"


class ConflictError(ServiceError):
    """Another request changed the same thing first: nothing was stored."""

    code = "conflict"


class IdempotencyError(ServiceError):
    """The same Idempotency-Key was used with another request."""

    code = "idempotency_key_reused"


class UploadTimeoutError(ServiceError):
    """The body did not arrive in the time allowed."""

    code = "upload_timeout"


class TusRequestError(ServiceError):
    """A request that is none of tus 1.0, or asks for more of it than is there."""

    code = "invalid_tus_request"


class TusVersionError(TusRequestError):
    """A request that does not say that it is of tus 1.0.0."""

    code = "unsupported_tus_version"


class UnknownUploadError(ServiceError):
    """The case, or this step of it, has no upload of that id."""

    code = "unknown_upload"


class UploadEndedError(ServiceError):
    """Nothing more is taken for a resumable upload: its time is over, it was ended or refused, or its case closed."""

    code = "upload_ended"


class UploadOffsetError(ServiceError):
    """A resumable upload goes on at another byte than the one that was sent."""

    code = "upload_offset"


class UploadBusyError(ServiceError):
    """Another request writes to a resumable upload."""

    code = "upload_busy"


class UploadPiecesError(ServiceError):
    """A resumable upload came in too many pieces."""

    code = "too_many_pieces"


class ChecksumError(ServiceError):
    """A piece of an upload has not the checksum that came with it."""

    code = "checksum_mismatch"


class UnknownEndpointError(ServiceError):
    """No webhook endpoint of that id."""

    code = "unknown_webhook_endpoint"


class UnknownDeliveryError(ServiceError):
    """The endpoint has no delivery of that id."""

    code = "unknown_webhook_delivery"


class EndpointDisabledError(ServiceError):
    """Nothing is sent to the endpoint, because it answered that it is gone."""

    code = "webhook_endpoint_disabled"


class TooManyEndpointsError(ServiceError):
    """No more webhook endpoints are made."""

    code = "too_many_webhook_endpoints"


class WebhookUrlError(ServiceError):
    """No webhook goes to that URL: it is malformed, not https, or leads into a private network."""

    code = "unsafe_webhook_url"


class ForgottenError(ServiceError):
    """What spoke of the person of this case was erased: its data key is gone."""

    code = "case_forgotten"


class AuditBrokenError(ServiceError):
    """A line of the audit log is missing, was changed, or is not the one of an anchor."""

    code = "audit_broken"


class StoreRevisionError(ServiceError):
    """The tables of the case store are of a revision that this build cannot work with, or cannot be changed."""

    code = "store_revision"


class UnavailableError(ServiceError):
    """Try again later; nothing was acknowledged."""

    code = "unavailable"


class StoreUnavailableError(UnavailableError):
    """The case store is away, locked or full."""

    code = "store_unavailable"


class EvidenceUnavailableError(UnavailableError):
    """The evidence cannot be written or read."""

    code = "evidence_unavailable"


class KeyMissingError(UnavailableError):
    """Something was sealed by an encryption key that this process does not have."""

    code = "key_missing"


class SealBrokenError(UnavailableError):
    """Sealed data was changed, cut off, or put in the place of another."""

    code = "seal_broken"


class BacklogError(UnavailableError):
    """Too many cases wait for their decision: a new one would wait too long."""

    code = "backlog_full"


class ServerStartError(UnavailableError):
    """A server that was started as a child process did not become ready."""

    code = "server_not_ready"
