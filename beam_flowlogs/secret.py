"""A secret's name in, its value out, on the worker: options and configuration only ever carry the name."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

_KEEP = 60.0  # seconds: a rotated secret is found after as long at most

_values: dict[str, tuple[float, str]] = {}
_lock = threading.Lock()


class SecretUnavailable(RuntimeError):  # noqa: N818
    """A secret could not be had; the message names it and never holds it."""


def is_reference(text: str) -> bool:
    """Tell whether `text` names a secret: env:NAME, file:/path, or a Secrets Manager or SSM parameter ARN."""
    kind, _, rest = text.partition(":")
    return bool(rest) and (kind in ("env", "file") or _service(text) in ("secretsmanager", "ssm"))


def check(reference: str) -> str:
    """Give back `reference` if it is one.

    Raises ValueError otherwise, without repeating the text: it may be the secret itself, given by mistake.
    """
    if is_reference(reference):
        return reference
    raise ValueError(
        "not a reference to a secret (the text is not shown, since it may be one): "
        "use env:NAME, file:/path, or the ARN of a Secrets Manager secret or an SSM parameter"
    )


def resolve(reference: str) -> str:
    """The secret that `reference` names, without white space around it; kept for a minute.

    Raises SecretUnavailable when it is not there, empty, or may not be read now.
    """
    check(reference)
    now = time.monotonic()
    with _lock:
        until, value = _values.get(reference, (0.0, ""))
    if now < until:
        return value
    value = _read(reference).strip()
    if not value:
        raise SecretUnavailable(f"the secret {reference} is empty")
    if not value.isprintable():  # no header takes it, and the error would show it
        raise SecretUnavailable(f"the secret {reference} holds a line break or another control character")
    with _lock:
        _values[reference] = (now + _KEEP, value)
    return value


def _read(reference: str) -> str:
    kind, _, rest = reference.partition(":")
    if kind == "env":
        if rest not in os.environ:
            raise SecretUnavailable(
                f"the environment variable {rest} is not set on this worker: set it, or name another"
            )
        return os.environ[rest]
    if kind == "file":
        try:
            return Path(rest).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise SecretUnavailable(f"the secret's file {rest} cannot be read: {type(e).__name__}") from e
    return _read_from_aws(reference)


def _read_from_aws(arn: str) -> str:
    # Imported here: workers whose secrets are files or variables need no AWS client, and it takes 0.3 s to load.
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    # At DEBUG it logs whole answers, and these hold nothing but the secret.
    logging.getLogger("botocore.parsers").setLevel(logging.INFO)
    service, region = _service(arn), arn.split(":")[3]
    try:
        client: Any = boto3.client(service, region_name=region)  # type: ignore[call-overload]
        if service == "ssm":
            return str(client.get_parameter(Name=arn, WithDecryption=True)["Parameter"]["Value"])
        return str(client.get_secret_value(SecretId=arn)["SecretString"])
    except KeyError as e:
        raise SecretUnavailable(f"the secret {arn} has no text value") from e
    except (BotoCoreError, ClientError) as e:
        code = e.response["Error"]["Code"] if isinstance(e, ClientError) else type(e).__name__
        raise SecretUnavailable(
            f"the secret {arn} cannot be read: {code}. Check that the worker's role may read it"
        ) from e


def _service(reference: str) -> str:
    parts = reference.split(":", 5)
    return parts[2] if len(parts) == 6 and parts[0] == "arn" else ""
