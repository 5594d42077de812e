"""An S3 and SQS emulator on the loopback interface that sends bucket notifications itself."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from rich.progress import Progress

from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.process import LOOPBACK, Process, spawn
from beam_flowlogs.local.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"
_ACCOUNT = "000000000000"
_KEY = "test"
_TEST_EVENT_SECONDS = 10.0


class AwsEmulator(Server):
    """S3 and SQS as far as this project uses them, by the emulator `ministack`, with its data in `folder`.

    Objects are on disk at once. Queues and settings are saved at a clean stop only: after a kill, the messages and
    the bucket notifications since the start are gone, and `create_notified_bucket` sets them up again.
    """

    name = "The S3 and SQS emulator"
    start_seconds = 30.0

    def environment(self) -> dict[str, str]:
        """Environment variables that lead AWS clients here, with credentials that are good nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,  # the one that boto3 reads
        }

    def queue_url(self, queue: str) -> str:
        """The URL of the queue of this name, whether it exists or not."""
        # Never the one that the emulator gives: it would hold the port of the start that the queue was created in.
        return f"{self.url}/{_ACCOUNT}/{queue}"

    def create_notified_bucket(self, bucket: str, queue: str) -> str:
        """Make sure of a bucket and a queue that hears of every object created in it; the queue's URL.

        What is there already is kept. A new notification is proved by the test event that S3 sends for it.

        Raises:
            LocalStackError: the test event does not arrive.
        """
        sqs, s3 = self._sqs(), self._s3()
        queue_url = self.queue_url(queue)
        try:
            sqs.get_queue_url(QueueName=queue)
        except sqs.exceptions.QueueDoesNotExist:
            sqs.create_queue(QueueName=queue)
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=bucket)
        arn = f"arn:aws:sqs:{REGION}:{_ACCOUNT}:{queue}"
        known = s3.get_bucket_notification_configuration(Bucket=bucket).get("QueueConfigurations", [])
        if arn not in [each["QueueArn"] for each in known]:
            s3.put_bucket_notification_configuration(
                Bucket=bucket,
                NotificationConfiguration={
                    "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
                },
            )
            _take_test_event(sqs, queue_url, bucket)
        return queue_url

    def require(self) -> None:
        """Raise a LocalStackError when the emulator is not installed."""
        if importlib.util.find_spec("ministack") is None:
            raise LocalStackError(
                f"the S3 and SQS emulator is not installed: {shlex.quote(sys.executable)} -m pip install "
                "'beam-flowlogs[local]' (in a clone: -e '.[local]')"
            )

    def _launch(self, progress: Progress) -> Process:  # noqa: ARG002 - it starts faster than a bar is drawn
        self.require()
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        # Only these variables: the user's AWS settings are none of the emulator's business, and the other way round.
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(scratch),
            "TMPDIR": str(scratch),  # its pid file
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": _ACCOUNT,
            "GATEWAY_PORT": str(self.port),
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "objects"),
            # It would clean up after its like in the user's Docker.
            "DOCKER_HOST": f"unix://{scratch}/no-docker",
        }
        return spawn([sys.executable, "-m", "ministack"], log=self._log_files()[0], env=environment, cwd=scratch)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_files(self) -> tuple[Path, ...]:
        return (self.folder / "ministack.log",)

    def _s3(self) -> S3Client:
        return _session().client("s3", endpoint_url=self.url, config=_CLIENT)

    def _sqs(self) -> SQSClient:
        return _session().client("sqs", endpoint_url=self.url, config=_CLIENT)


def _session() -> boto3.Session:
    """A session that reads no profile and no file of the user's: the emulator must work whatever they say."""
    unread: dict[str, tuple[None, None, str | None, None]] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    core = botocore.session.Session(unread)
    return boto3.Session(_KEY, _KEY, region_name=REGION, botocore_session=core)


# No proxy between us and the loopback interface.
_CLIENT = Config(proxies={}, connect_timeout=5, read_timeout=30)


def _take_test_event(sqs: SQSClient, queue_url: str, bucket: str) -> None:
    """Wait for the test event of the bucket and delete it; other messages stay in the queue."""
    deadline = time.monotonic() + _TEST_EVENT_SECONDS
    while time.monotonic() < deadline:
        received = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        found = False
        for message in received.get("Messages", []):
            receipt = message["ReceiptHandle"]
            body = json.loads(message["Body"])
            if body.get("Event") == "s3:TestEvent" and body.get("Bucket") == bucket:
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=receipt)
                found = True
            else:
                sqs.change_message_visibility(QueueUrl=queue_url, ReceiptHandle=receipt, VisibilityTimeout=0)
        if found:
            return
    raise LocalStackError(
        f"The emulator did not announce the bucket {bucket} to its queue within {_TEST_EVENT_SECONDS} s"
    )
