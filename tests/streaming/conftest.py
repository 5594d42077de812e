"""One Flink, one Elasticsearch and one job for all tests that stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.flink import Flink
from tests.streaming.job import NAME, Stream
from tests.streaming.recorder import Record, recording


@pytest.fixture(scope="session")
def _stream(
    make_home: Callable[[], Path],
    aws: AwsEmulator,
    elasticsearch_options: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stream]:
    record = Record()
    flink = Flink(make_home(), cache=elasticsearch_options["cache"])
    queue = aws.create_notified_bucket(NAME, NAME).rpartition("/")[2]
    with (
        ElasticsearchServer(make_home(), **elasticsearch_options) as elasticsearch,
        recording(elasticsearch.url, record.elasticsearch) as to_elasticsearch,
        recording(aws.url, record.aws) as to_aws,
    ):
        set_up(connect(ElasticsearchConfig(urls=(elasticsearch.url,))))
        try:
            servers = flink.start({**aws.environment(), "AWS_ENDPOINT_URL": to_aws.url})
            folder = tmp_path_factory.mktemp("dead-letters")
            stream = Stream(
                elasticsearch, to_elasticsearch, to_aws, queue, record, servers, flink.environment(), folder
            )
            stream.start()
            yield stream
        finally:
            flink.stop()


@pytest.fixture
def stream(_stream: Stream) -> Stream:
    """The running job with an empty queue.

    What earlier tests have indexed stays: a window that Flink restored after a kill may come to its end only now. What
    it merges is there already, so it changes nothing; but deleted roll-ups would come back without raw documents.
    """
    assert _stream.under_way() == 0
    _stream.before = 0
    _stream.before = _stream.count()
    return _stream
