"""What a real Elasticsearch says to items, requests and connections that go wrong, and what becomes of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.bulk import BulkGaveUp
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.process import free_port
from tests.integration.fault_proxy import Fault, FaultProxy
from tests.integration.sink_input import assert_exact, items, make_index, sending, writer

pytestmark = pytest.mark.integration

COUNT = 3000


@pytest.fixture(scope="module")
def config(elasticsearch: ElasticsearchServer) -> ElasticsearchConfig:
    return ElasticsearchConfig(urls=(elasticsearch.url,))


@pytest.fixture(scope="module")
def client(config: ElasticsearchConfig) -> Elasticsearch:
    return connect(config)


@pytest.fixture
def index(client: Elasticsearch) -> Iterator[str]:
    name = make_index(client)
    yield name
    client.indices.delete(index=name)


def test_every_item_is_written_once_and_again_is_only_duplicates(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    sink = writer(config)
    first = sink.write(items(index, COUNT))
    assert (first.written, first.retries) == (COUNT, 0)
    assert_exact(client, index, COUNT, first)
    again = sink.write(items(index, COUNT))
    assert (again.written, again.conflicts) == (0, tuple(range(COUNT)))
    assert_exact(client, index, COUNT, again)


def test_one_document_against_the_mapping_among_thousands_is_rejected_alone(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    good = items(index, COUNT).to_pylist()
    good[1234] = good[1234].replace(b'{"n":1234', b'{"surprise":1,"n":1234')
    good[2345] = good[2345].replace(b'"n":2345', b'"n":"many"')
    result = writer(config).write(pa.array(good))
    strict, number = result.rejected
    assert (strict.position, strict.status, strict.reason) == (1234, 400, "strict_dynamic_mapping_exception")
    assert "surprise" in strict.detail
    assert (number.position, number.reason) == (2345, "document_parsing_exception")
    assert "many" in number.detail
    assert strict.data == good[1234]
    assert_exact(client, index, COUNT, result)


def test_an_item_that_is_no_json_is_rejected_alone(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    good = items(index, 500).to_pylist()
    good[77] = b"no action at all\n{}\n"
    good[88] = good[88].replace(b'"padding":', b'"padding"')
    result = writer(config).write(pa.array(good))
    assert [item.position for item in result.rejected] == [77, 88]
    assert all(item.status == 400 for item in result.rejected)
    assert_exact(client, index, 500, result)


BLOCKS = {"read_only_allow_delete": "12", "write": "8", "read_only": "5"}


def _close(client: Elasticsearch, index: str) -> None:
    client.indices.close(index=index)


def _open(client: Elasticsearch, index: str) -> None:
    client.indices.open(index=index)


def _block(block: str, value: bool | None, client: Elasticsearch, index: str) -> None:
    client.indices.put_settings(index=index, settings={f"index.blocks.{block}": value})


@pytest.mark.parametrize(
    ("shut", "let", "told"),
    [
        pytest.param(_close, _open, r"index_closed_exception: .*{index}.* closed.*POST <index>/_open", id="closed"),
        *(
            pytest.param(
                partial(_block, block, True),
                partial(_block, block, None),
                rf"cluster_block_exception: index \[{{index}}\] blocked by: .*/{number}/.*take the block away",
                id=block,
            )
            for block, number in BLOCKS.items()
        ),
    ],
)
def test_an_index_that_takes_no_writes_is_waited_for_and_named_with_the_cure(
    config: ElasticsearchConfig,
    client: Elasticsearch,
    index: str,
    shut: Callable[[Elasticsearch, str], None],
    let: Callable[[Elasticsearch, str], None],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shut(client, index)
    with pytest.raises(BulkGaveUp, match=told.format(index=index)):
        writer(config, retry_for=0.3).write(items(index, 10))
    with sending(writer(config), items(index, COUNT)) as future:
        time.sleep(1)
        assert not future.done()
        let(client, index)
        result = future.result(30)
    assert result.retries > 0
    assert result.rejected == ()
    assert_exact(client, index, COUNT, result)
    (warning,) = [record.getMessage() for record in caplog.records if " 500 bulk items" in record.getMessage()]
    assert re.search(told.format(index=index), warning)


def test_the_newest_external_version_wins_whatever_comes_first(
    config: ElasticsearchConfig, client: Elasticsearch, index: str
) -> None:
    def version(number: int) -> bytes:
        action = b'{"index":{"_index":"%b","_id":"0","version":%d,"version_type":"external"}}' % (
            index.encode(),
            number,
        )
        return action + b'\n{"n":%d}\n' % number

    result = writer(config, max_actions=1).write(pa.array([version(5)]))
    assert result.written == 1
    result = writer(config).write(pa.array([version(3), version(7), version(7)]))
    assert (result.written, result.conflicts) == (1, (0, 2))
    assert client.get(index=index, id="0")["_source"] == {"n": 7}


def test_an_update_of_a_document_that_is_not_there_is_rejected(config: ElasticsearchConfig, index: str) -> None:
    update = b'{"update":{"_index":"%b","_id":"0"}}\n{"doc":{"n":1}}\n' % index.encode()
    (rejected,) = writer(config).write(pa.array([update])).rejected
    assert (rejected.status, rejected.reason) == (404, "document_missing_exception")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=0),
        Fault(cut_after=100),
        Fault(cut_after=100, reset=True),
        Fault(status=200, body=b"<html>hello</html>", headers={"content-type": "text/html"}, forward=True),
        Fault(status=200, body=b'{"errors":false,"items":[]}', headers={"content-type": "application/json"}),
        Fault(status=503, body=b"no healthy upstream", forward=True),
        Fault(garbage=b"\x00\xff not http at all\r\n\r\n", forward=True),
        Fault(headers={"content-encoding": "gzip"}),
        Fault(headers={"content-type": "application/pdf"}),
        Fault(delay=1.5),
    ],
    ids=[
        "cut at the body",
        "cut in the body",
        "reset",
        "html",
        "too short",
        "503",
        "no http",
        "no gzip",
        "type",
        "late",
    ],
)
def test_an_answer_that_is_lost_on_the_way_leads_to_no_loss_and_no_double(
    elasticsearch: ElasticsearchServer, client: Elasticsearch, index: str, fault: Fault
) -> None:
    with FaultProxy("127.0.0.1", elasticsearch.port) as proxy:
        proxy.fail(None, fault, fault, None, fault)
        sink = writer(ElasticsearchConfig(urls=(proxy.url,), request_timeout=1.0), concurrency=2)
        result = sink.write(items(index, COUNT))
        assert proxy.planned == 0
    assert result.retries == 3
    assert result.rejected == ()
    assert_exact(client, index, COUNT, result)


def test_a_host_that_is_dead_is_passed_over(
    elasticsearch: ElasticsearchServer, client: Elasticsearch, index: str
) -> None:
    config = ElasticsearchConfig(urls=(f"http://127.0.0.1:{free_port()}", elasticsearch.url))
    result = writer(config).write(items(index, COUNT))
    assert result.retries == 0
    assert_exact(client, index, COUNT, result)
