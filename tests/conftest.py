"""Real servers for the integration tests: started when the first test asks, gone when the session ends.

FLOWLOGS_TEST_HOME names a folder to keep the unpacked Elasticsearch in; without it, that is the user's own cache.
FLOWLOGS_TEST_ELASTICSEARCH names its release (such as 8.14.1); without it, that is the newest that Java here can run.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import pytest
from hypothesis import HealthCheck, settings

from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.stack import FOREIGN_AWS_VARIABLES

# On a busy machine an example may take any time: that is no fault of what is tested.
settings.register_profile("flowlogs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flowlogs")


class NotifiedQueue(NamedTuple):
    """A bucket, and the queue that hears of every object created in it."""

    bucket: str
    queue_url: str


class StartElasticsearch(Protocol):
    """Starts an Elasticsearch of the test's own; takes what ElasticsearchServer takes, but for the folder."""

    def __call__(self, **options: Any) -> ElasticsearchServer: ...


@pytest.fixture(scope="session", autouse=True)
def _end_in_order_when_terminated() -> Iterator[None]:
    """A SIGTERM ends Python without clean-up: the servers would outlive the session."""

    def end(number: int, frame: FrameType | None) -> None:
        pytest.exit(f"ended by signal {number}", returncode=128 + number)

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def make_home() -> Iterator[Callable[[], Path]]:
    """Make a new folder for servers, which goes with the session.

    Not tmp_path: under root that is closed to the user that Elasticsearch then runs as.
    """
    with ExitStack() as folders:

        def make() -> Path:
            folder = Path(tempfile.mkdtemp(prefix="flowlogs-test-"))
            folder.chmod(0o755)
            folders.callback(shutil.rmtree, folder, ignore_errors=True)
            return folder

        yield make


@pytest.fixture(scope="session")
def elasticsearch_options() -> dict[str, Any]:
    """What every Elasticsearch of a test shares: a small heap, and the cache and release that the environment names."""
    cache = os.environ.get("FLOWLOGS_TEST_HOME")
    version = os.environ.get("FLOWLOGS_TEST_ELASTICSEARCH", "")
    return {"heap": "512m", "cache": Path(cache) if cache else None, "version": version}


@pytest.fixture(scope="session")
def elasticsearch(
    make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]
) -> Iterator[ElasticsearchServer]:
    """A running Elasticsearch that all tests share: use index names of your own, and change no cluster setting."""
    with ElasticsearchServer(make_home(), **elasticsearch_options) as server:
        yield server


@pytest.fixture
def start_elasticsearch(
    make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]
) -> Iterator[StartElasticsearch]:
    """Start an Elasticsearch for one test, to kill it or to bring it into trouble."""
    with ExitStack() as servers:

        def start(**options: Any) -> ElasticsearchServer:
            return servers.enter_context(ElasticsearchServer(make_home(), **(elasticsearch_options | options)))

        yield start


@pytest.fixture(scope="session")
def aws(make_home: Callable[[], Path]) -> Iterator[AwsEmulator]:
    """A running S3 and SQS emulator; while it runs, the environment leads every AWS client there and nowhere else."""
    with AwsEmulator(make_home()) as emulator, pytest.MonkeyPatch.context() as environment:
        for name in FOREIGN_AWS_VARIABLES:
            environment.delenv(name, raising=False)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in emulator.environment().items():
            environment.setenv(name, value)
        yield emulator


@pytest.fixture
def make_queue(aws: AwsEmulator) -> Callable[[], NotifiedQueue]:
    """Make a bucket and its queue under a name that nobody else has."""

    def make() -> NotifiedQueue:
        name = f"flowlogs-{uuid.uuid4().hex[:12]}"
        return NotifiedQueue(name, aws.create_notified_bucket(name, name))

    return make
