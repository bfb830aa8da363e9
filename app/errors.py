"""Everything that can be said instead of an answer.

    DemitasseError              status  code
    ├── UnreadableImage         400     unreadable_image
    ├── MalformedBody           400     malformed_body
    ├── Unauthorized            401     unauthorized          (with the way to authenticate, in a header)
    ├── NotFound                404     not_found
    │   ├── UnknownModel        404     unknown_model
    │   ├── UnknownVersion      404     unknown_version
    │   ├── UnknownLabel        404     unknown_label
    │   └── UnknownIndex        404     unknown_index
    ├── MethodNotAllowed        405     method_not_allowed
    ├── NotAcceptable           406     not_acceptable
    ├── BodyTooLarge            413     body_too_large
    ├── TooManyPixels           413     too_many_pixels
    ├── UnsupportedMediaType    415     unsupported_media_type
    │   └── UnsupportedEncoding 415     unsupported_encoding  (with those that are read, in a header)
    ├── InvalidParameter        422     invalid_parameter
    ├── TooManyRequests         429     too_many_requests     (with retry_after_s)
    │   ├── QueueFull           429     queue_full
    │   └── RateLimited         429     rate_limited
    ├── ClientDisconnected      499     client_disconnected   (nobody is left to read it; logs and metrics only)
    ├── InternalError           500     internal_error
    │   └── InferenceFailed     500     inference_failed
    ├── Unimplemented           501     unimplemented
    ├── NotReady                503     not_ready
    │   ├── Draining            503     draining
    │   └── EngineStuck         503     engine_stuck
    └── DeadlinePassed          504     deadline_passed

Messages say what was expected and what came.
"""

from typing import ClassVar


class DemitasseError(Exception):
    """`headers` go with its answer, whatever the protocol."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.headers: dict[str, str] = {}


class UnreadableImage(DemitasseError):
    status, code = 400, "unreadable_image"


class MalformedBody(DemitasseError):
    status, code = 400, "malformed_body"


class Unauthorized(DemitasseError):
    status, code = 401, "unauthorized"

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.headers["WWW-Authenticate"] = challenge


class NotFound(DemitasseError):
    status, code = 404, "not_found"


class UnknownModel(NotFound):
    code = "unknown_model"


class UnknownVersion(NotFound):
    code = "unknown_version"


class UnknownLabel(NotFound):
    code = "unknown_label"


class UnknownIndex(NotFound):
    code = "unknown_index"


class MethodNotAllowed(DemitasseError):
    status, code = 405, "method_not_allowed"


class NotAcceptable(DemitasseError):
    status, code = 406, "not_acceptable"


class BodyTooLarge(DemitasseError):
    status, code = 413, "body_too_large"


class TooManyPixels(DemitasseError):
    status, code = 413, "too_many_pixels"


class UnsupportedMediaType(DemitasseError):
    status, code = 415, "unsupported_media_type"


class UnsupportedEncoding(UnsupportedMediaType):
    code = "unsupported_encoding"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers["Accept-Encoding"] = "gzip, deflate"


class InvalidParameter(DemitasseError):
    status, code = 422, "invalid_parameter"


class TooManyRequests(DemitasseError):
    status, code = 429, "too_many_requests"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.headers["Retry-After"] = str(retry_after_s)


class QueueFull(TooManyRequests):
    code = "queue_full"


class RateLimited(TooManyRequests):
    code = "rate_limited"


class ClientDisconnected(DemitasseError):
    status, code = 499, "client_disconnected"


class InternalError(DemitasseError):
    status, code = 500, "internal_error"


class InferenceFailed(InternalError):
    code = "inference_failed"


class Unimplemented(DemitasseError):
    status, code = 501, "unimplemented"


class NotReady(DemitasseError):
    status, code = 503, "not_ready"


class Draining(NotReady):
    code = "draining"


class EngineStuck(NotReady):
    code = "engine_stuck"


class DeadlinePassed(DemitasseError):
    status, code = 504, "deadline_passed"
