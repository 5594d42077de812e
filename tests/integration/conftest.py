"""What the integration tests share: an Elasticsearch that is set up, and holds nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.local.elasticsearch import ElasticsearchServer


@pytest.fixture
def cluster(elasticsearch: ElasticsearchServer) -> Iterator[Elasticsearch]:
    """A client of it; what a test leaves in the indices of flow logs is deleted."""
    client = connect(ElasticsearchConfig(urls=(elasticsearch.url,)))
    delete_indices(client)
    set_up(client)
    yield client
    delete_indices(client)


def delete_indices(client: Elasticsearch) -> None:
    """Delete all indices of flow logs."""
    for index in client.indices.get(index="flowlogs-*", expand_wildcards="all"):
        client.indices.delete(index=index)
