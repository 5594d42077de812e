"""Requests to Elasticsearch that wait out its bad hours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from elastic_transport import ApiError, TransportError
from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception,
    stop_before_delay,
    stop_never,
    wait_random_exponential,
)

from beam_flowlogs.secret import SecretUnavailable

_logger = logging.getLogger(__name__)

T = TypeVar("T")


class NotReadable(RuntimeError):  # noqa: N818
    """Something could not be read now; the message says what, and why."""


def patiently(action: Callable[[], T], retry_for: float | None) -> T:
    """Return what ``action`` returns, again and again until the cluster can give it.

    ``retry_for`` is in seconds; None is for ever. Raises what it raised last, and at once what is the request's fault.
    """
    retrying = Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_never if retry_for is None else stop_before_delay(retry_for),
        wait=wait_random_exponential(multiplier=0.2, max=15),
        before_sleep=before_sleep_log(_logger, logging.WARNING),
        reraise=True,
    )
    return retrying(action)


def _passes(error: BaseException) -> bool:
    """Tell whether an error is the environment's state rather than the request's fault."""
    if isinstance(error, ApiError):
        return error.meta.status in (401, 403, 408, 429) or error.meta.status >= 500
    return isinstance(error, (TransportError, SecretUnavailable, NotReadable))
