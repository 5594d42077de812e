"""The S3 client of a worker process, and what an error of S3 means: wait, give up on the object, or stop.

S3 fails in two ways. Something is wrong with **one object** (it is gone, forbidden, archived): ``ObjectRejected``, the
object goes to the dead letters. Or **the environment** is in trouble (throttling, network, credentials): the call is
repeated with back-off until it heals, with a warning that says what to check; nothing is ever dropped for it. Which of
both a denial is, ``s3_access`` finds out.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import boto3
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  (botocore's own; the built-in one never leaves botocore)
    CredentialRetrievalError,
    EndpointProviderError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    InvalidDNSNameError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    stop_never,
    wait_random_exponential,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ObjectRejected", "ObjectUnavailable", "Retry", "aws_session", "is_denial", "s3_client"]

log = logging.getLogger(__name__)
T = TypeVar("T")

CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=32,
    tcp_keepalive=True,
    # One place retries: ``Retry`` below. Two that multiply would make every stated time limit wrong.
    retries={"total_max_attempts": 1, "mode": "standard"},
    # Not for its cost (0.1 ms CPU a MiB): its verdict would come after the last byte, when the rows are on their way; a
    # resumed stream has none; S3's default CRC-64 needs the optional awscrt. TLS and gzip's own CRC guard the bytes.
    response_checksum_validation="when_required",
)

WARN_EVERY = 60.0
"""Seconds between two warnings of the same kind in one process."""

_REJECTED = {
    "NoSuchKey": ("object-missing", "it was deleted before it was read; restore it, or drop this dead letter"),
    "NoSuchVersion": ("object-missing", "this version was deleted; restore it, or drop this dead letter"),
    "NoSuchBucket": ("bucket-missing", "check the bucket's name, and the account and endpoint that are used"),
    "InvalidObjectState": ("object-archived", "it is in an archive storage class: restore it, then replay"),
}
_ACCESS = (
    "access-denied",
    "allow s3:GetObject, s3:GetObjectVersion and s3:ListBucket to this role, then replay (unlisted: maybe gone)",
)
_KMS = ("key-denied", "allow kms:Decrypt on the bucket's KMS key to this role and check that it is enabled; replay")
_BAD_NAME = ("bad-name", "S3 has no such names; drop this dead letter")
_REFUSED = ("request-refused", "S3 refuses this request for good; act on its message, then replay")

_CREDENTIALS = (
    "check the credentials: the role or AWS_* variables of this worker, their expiry, the clock of this machine"
)
_THROTTLED = "it throttles or is overloaded: lower the parallelism if this lasts"
_NETWORK = "check the network, the proxy, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL"

_CREDENTIAL_OPERATIONS = frozenset({
    "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateToken", "GetRoleCredentials",
    "GetSessionToken",
})  # fmt: skip
"""What botocore asks STS and SSO for on the way to an answer of S3: their refusal says nothing of an object."""
_CREDENTIAL_CODES = frozenset({
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
    "UnrecognizedClientException",
})  # fmt: skip
_ENDPOINT_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "RequestTimeout"})
_CREDENTIAL_ERRORS = (
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
_NETWORK_ERRORS = (
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
)
_NAME_ERRORS = (EndpointProviderError, InvalidDNSNameError, ParamValidationError)


class ObjectRejected(Exception):  # noqa: N818  (it says what happened)
    """One object can not be read, and waiting will not help: ``reason`` is a code, ``detail`` names object and cure."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class ObjectUnavailable(Exception):  # noqa: N818  (it says what happened)
    """S3 could not be reached, or had no use of our credentials, for as long as the caller would wait."""

    def __init__(self, detail: str, advice: str = _NETWORK) -> None:
        super().__init__(detail, advice)
        self.detail = detail
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.detail}; {self.advice}"


@dataclass(frozen=True)
class Retry:
    """How long to wait for S3: ``seconds`` without an answer before ``ObjectUnavailable``; None waits for ever.

    ``service`` is what warnings and advice name instead of S3.
    """

    seconds: float | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    service: str = "S3"

    def call(self, name: str, action: Callable[[], T]) -> T:
        """Return ``action()``, repeated with back-off while the environment fails it.

        ``name`` is what it acts on, for messages. Raises ObjectRejected or ObjectUnavailable, and whatever ``action``
        raises that is no error of S3.
        """

        def attempt() -> T:
            try:
                return action()
            except (ClientError, BotoCoreError, ResponseParserError, urllib3.exceptions.HTTPError) as error:
                verdict = _verdict(name, error)
                if verdict is None:
                    raise
                raise verdict from error

        retrying = Retrying(
            retry=retry_if_exception_type(ObjectUnavailable),
            stop=stop_never if self.seconds is None else stop_before_delay(self.seconds),
            wait=wait_random_exponential(multiplier=0.2, max=30, min=0.05),
            sleep=self.sleep,
            before_sleep=partial(_warn, self.service),
            reraise=True,
        )
        return retrying(attempt)


def s3_client() -> S3Client:
    """Return this process's S3 client; credentials, region and endpoint come from boto3's usual places."""
    with _lock:
        return _client_of(os.getpid())


_lock = threading.Lock()


@functools.cache
def _client_of(_pid: int) -> S3Client:
    # By process id, because a forked worker must not share its parent's sockets.
    return aws_session().client("s3", config=CONFIG)


def aws_session() -> boto3.session.Session:
    """Return a session of boto3's usual chain that also heeds AWS_REGION, as AWS's other SDKs and Lambda do."""
    return boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)


def _verdict(name: str, error: Exception) -> ObjectRejected | ObjectUnavailable | None:
    """Say what an error of S3 about ``name`` means; None: it is none of ours (a bug, or a broken configuration)."""
    found = " ".join(str(error).split())[:500]
    if isinstance(error, ClientError):
        rejection, advice = _answer(error)
    elif isinstance(error, _NAME_ERRORS):
        rejection, advice = _BAD_NAME, ""
    elif isinstance(error, _CREDENTIAL_ERRORS):
        rejection, advice = None, _CREDENTIALS
    elif isinstance(error, _NETWORK_ERRORS):
        rejection, advice = None, _NETWORK
    else:
        return None
    if rejection is None:
        return ObjectUnavailable(f"{name}: {found}", advice)
    reason, cure = rejection
    return ObjectRejected(reason, f"{name}: {found}; {cure}")


def _answer(error: ClientError) -> tuple[tuple[str, str] | None, str]:
    """Return what S3's error answer means: (reason, cure) for the object, or None and what to check."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _CREDENTIAL_CODES or error.operation_name in _CREDENTIAL_OPERATIONS:
        return None, _CREDENTIALS
    if code in _REJECTED:
        return _REJECTED[code], ""
    if status >= 500 or status == 429 or "Throttl" in code or code.endswith(("SlowDown", "OverLimit")):
        return None, _THROTTLED
    # An answer without a code of S3's (botocore then puts the status, or nothing) is that of something in between.
    stranger = not code or code.isdecimal()
    if code in _ENDPOINT_CODES or status < 400 or (stranger and status != 403):
        return None, _NETWORK
    if code.startswith("KMS.") or (status == 403 and "kms:" in message.lower()):
        return _KMS, ""
    return (_ACCESS if status == 403 else _REFUSED), ""


def is_denial(error: ClientError) -> bool:
    """Tell whether an answer denies access, to an object, its bucket or its key: which, it does not say."""
    return _answer(error)[0] in (_ACCESS, _KMS)


_last_warning: dict[tuple[str, str], float] = {}


def _warn(service: str, state: RetryCallState) -> None:
    """Log what is being waited for; once a minute is enough, however many objects wait."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, ObjectUnavailable):
        return
    now = time.monotonic()
    with _lock:
        due = now - _last_warning.get((service, error.advice), -WARN_EVERY) >= WARN_EVERY
        if due:
            _last_warning[service, error.advice] = now
    if due:
        log.warning("%s does not answer, trying again (attempt %d): %s", service, state.attempt_number, error)
