"""Alert documents in; a webhook called or an SNS topic published to, with patience but not for ever."""

from __future__ import annotations

import http.client
import logging
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from beam_flowlogs import secret
from beam_flowlogs.alert_rules import DEFAULT_RULES, Rule
from beam_flowlogs.s3_client import aws_session

_logger = logging.getLogger(__name__)

_TIMEOUT_S = 10
_ATTEMPTS = 3
_RECENT_S = 86_400
_SUBJECT_CHARACTERS = 100  # the most that SNS takes
_FAILURES = (OSError, http.client.HTTPException, ClientError, BotoCoreError, secret.SecretUnavailable, ValueError)

Alert = Mapping[str, Any]


@dataclass(frozen=True)
class AlertConfig:
    """What is watched for, and who is told.

    ``webhook`` is a reference to an address (``env:NAME``, see secret.resolve), since such addresses are secrets;
    ``sns_topic`` is an ARN.
    """

    rules: tuple[Rule, ...] = DEFAULT_RULES
    webhook: str = ""
    sns_topic: str = ""

    def __post_init__(self) -> None:
        if self.webhook:
            secret.check(self.webhook)
        if self.sns_topic and not self.sns_topic.startswith("arn:"):
            raise ValueError(f"{self.sns_topic!r} is no SNS topic: give its ARN, arn:aws:sns:<region>:<account>:<name>")

    @property
    def tells(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.webhook or self.sns_topic)


def notify(config: AlertConfig, alerts: Sequence[Alert]) -> list[Alert]:
    """Tell of alerts; return those that were told, to everybody, before one could not be told to somebody.

    What could not be told is logged, and is in Elasticsearch; it holds up no more than a few attempts.
    """
    told: list[Alert] = []
    for alert in alerts:
        where = "the webhook"
        try:
            if config.webhook:
                _retrying(_call, config, alert)
            where = config.sns_topic
            if config.sns_topic:
                _retrying(_publish, config, alert)
        except _FAILURES as error:
            # Not the text of any error: it may hold the address. A secret's names the secret.
            why = str(error) if isinstance(error, secret.SecretUnavailable) else type(error).__name__
            untold = len(alerts) - len(told)
            _logger.warning("%d alerts could not be told to %s (%s), first: %s", untold, where, why, alert["message"])
            break
        told.append(alert)
    return told


def is_recent(alert: Alert, now: float | None = None) -> bool:
    """Tell whether an alert is of the last day: nobody is to be woken up by a backfill of last year."""
    end = datetime.fromisoformat(alert["event"]["end"].replace("Z", "+00:00")).timestamp()
    return (time.time() if now is None else now) - end < _RECENT_S


def _retrying(*call: Any) -> None:
    Retrying(
        retry=retry_if_exception_type((OSError, http.client.HTTPException, ClientError, BotoCoreError)),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )(*call)


def _call(config: AlertConfig, alert: Alert) -> None:
    url = secret.resolve(config.webhook)
    if urlsplit(url).scheme not in ("http", "https"):
        raise secret.SecretUnavailable(f"what {config.webhook} holds is no http(s) address")
    request = urllib.request.Request(url, orjson.dumps(alert), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310
        pass


def _publish(config: AlertConfig, alert: Alert) -> None:
    status = alert["flowlogs"]["alert"]["status"]
    subject = f"[{status}] {alert['rule']['name']} {alert['flowlogs']['alert']['key']}"[:_SUBJECT_CHARACTERS]
    region = config.sns_topic.split(":")[3]
    aws_session().client("sns", region_name=region).publish(
        TopicArn=config.sns_topic, Subject=subject, Message=orjson.dumps(alert).decode()
    )
