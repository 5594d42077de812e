"""Secrets that live in AWS, by the emulator's Secrets Manager and Parameter Store."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import boto3
import pytest

from beam_flowlogs import secret
from beam_flowlogs.local.aws import REGION, AwsEmulator

pytestmark = pytest.mark.integration


def test_a_secrets_manager_arn_leads_to_its_text(aws: AwsEmulator) -> None:
    client: Any = boto3.client("secretsmanager")
    arn = client.create_secret(Name=uuid.uuid4().hex, SecretString="the key\n")["ARN"]
    assert secret.resolve(arn) == "the key"


def test_a_parameter_arn_leads_to_its_decrypted_text(aws: AwsEmulator) -> None:
    client: Any = boto3.client("ssm")
    name = f"/elastic/{uuid.uuid4().hex}"
    client.put_parameter(Name=name, Value="the key", Type="SecureString")
    assert secret.resolve(f"arn:aws:ssm:{REGION}:000000000000:parameter{name}") == "the key"


@pytest.mark.parametrize("kind", ["secretsmanager", "ssm"])
def test_a_secret_of_aws_is_in_no_log_whatever_is_logged(
    aws: AwsEmulator, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    value, name = f"hunter2-{uuid.uuid4().hex}", f"/elastic/{uuid.uuid4().hex}"
    if kind == "ssm":
        parameters: Any = boto3.client("ssm")
        parameters.put_parameter(Name=name, Value=value, Type="SecureString")
        arn = f"arn:aws:ssm:{REGION}:000000000000:parameter{name}"
    else:
        secrets: Any = boto3.client("secretsmanager")
        arn = secrets.create_secret(Name=name, SecretString=value)["ARN"]
    with caplog.at_level(logging.DEBUG):
        assert secret.resolve(arn) == value
    assert "botocore" in caplog.text
    assert value not in caplog.text


@pytest.mark.parametrize(
    "kind", ["secretsmanager:us-east-1:000000000000:secret:none", "ssm:us-east-1:000000000000:parameter/none"]
)
def test_a_secret_that_aws_does_not_give_is_named_with_the_code(aws: AwsEmulator, kind: str) -> None:
    with pytest.raises(secret.SecretUnavailable, match=rf"arn:aws:{kind} cannot be read: \w+NotFound\w*"):
        secret.resolve(f"arn:aws:{kind}")


def test_a_binary_secret_is_refused(aws: AwsEmulator) -> None:
    client: Any = boto3.client("secretsmanager")
    arn = client.create_secret(Name=uuid.uuid4().hex, SecretBinary=b"\x00")["ARN"]
    with pytest.raises(secret.SecretUnavailable, match="no text value"):
        secret.resolve(arn)
