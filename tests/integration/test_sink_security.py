"""TLS, credentials and rights, as a real Elasticsearch with security sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs import secret
from beam_flowlogs.bulk import BulkConfig, BulkGaveUp
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.run import drain
from tests.conftest import NotifiedQueue
from tests.integration.sink_input import assert_exact, ids_in, items, make_index, sending, writer

pytestmark = pytest.mark.integration

COUNT = 2000


@pytest.fixture(scope="module")
def server(make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]) -> Iterator[ElasticsearchServer]:
    with ElasticsearchServer(make_home(), security=True, **elasticsearch_options) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: ElasticsearchServer) -> Elasticsearch:
    password = f"file:{server.password_file}"
    return connect(
        ElasticsearchConfig((server.url,), ca_certs=str(server.ca_path), username="elastic", password=password)
    )


@pytest.fixture
def index(admin: Elasticsearch) -> str:
    return make_index(admin)


@pytest.fixture(autouse=True)
def secrets_are_read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_KEEP", 0.0)


def key(admin: Elasticsearch, index: str, *privileges: str, **options: Any) -> tuple[str, str]:
    """The id of a new API key, and the key."""
    rights = {"sink": {"cluster": ["monitor"], "index": [{"names": [index], "privileges": list(privileges)}]}}
    made = admin.security.create_api_key(name="sink", role_descriptors=rights, **options)
    return made["id"], made["encoded"]


def config(server: ElasticsearchServer, key_file: Path) -> ElasticsearchConfig:
    return ElasticsearchConfig((server.url,), ca_certs=str(server.ca_path), api_key=f"file:{key_file}")


def test_an_api_key_that_may_only_create_is_enough(
    server: ElasticsearchServer, admin: Elasticsearch, index: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(key(admin, index, "create_doc")[1])
    result = writer(config(server, tmp_path / "key")).write(items(index, COUNT))
    assert result.retries == 0
    assert_exact(admin, index, COUNT, result)


@pytest.mark.parametrize("kind", ["password", "bearer"])
def test_a_password_or_a_bearer_token_will_do_as_well(
    kind: str, server: ElasticsearchServer, admin: Elasticsearch, tmp_path: Path
) -> None:
    if kind == "bearer":  # this account of Elastic's may write to logs-*, and its tokens need no subscription
        made = admin.security.create_service_token(namespace="elastic", service="fleet-server", name="sink")
        (tmp_path / "token").write_text(made["token"]["value"])
        config = ElasticsearchConfig((server.url,), bearer=f"file:{tmp_path / 'token'}", ca_certs=str(server.ca_path))
    else:
        password = f"file:{server.password_file}"
        config = ElasticsearchConfig((server.url,), username="elastic", password=password, ca_certs=str(server.ca_path))
    index = make_index(admin, "logs")
    result = writer(config).write(items(index, COUNT))
    assert result.retries == 0
    assert_exact(admin, index, COUNT, result)


def test_a_wrong_key_stops_with_a_clear_error_and_nothing_written(
    server: ElasticsearchServer, admin: Elasticsearch, index: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("bm8ta2V5OmF0LWFsbA==")
    with pytest.raises(BulkGaveUp, match=r"401 security_exception.*Check the credentials") as caught:
        writer(config(server, tmp_path / "key"), retry_for=0.3).write(items(index, COUNT))
    assert "bm8ta2V5OmF0LWFsbA" not in str(caught.value)
    assert ids_in(admin, index) == []


def test_a_key_that_expired_is_awaited_until_another_takes_its_place(
    server: ElasticsearchServer, admin: Elasticsearch, index: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(key(admin, index, "create_doc", expiration="1ms")[1])
    with pytest.raises(BulkGaveUp, match="401 security_exception"):
        writer(config(server, file), retry_for=0.3).write(items(index, 10))
    with sending(writer(config(server, file)), items(index, COUNT)) as future:
        time.sleep(0.5)
        assert not future.done()
        assert ids_in(admin, index) == []
        file.write_text(key(admin, index, "create_doc")[1])
        result = future.result(30)
    assert result.retries > 0
    assert_exact(admin, index, COUNT, result)


def test_a_key_without_the_right_to_write_rejects_nothing_and_goes_on_once_it_has_it(
    server: ElasticsearchServer, admin: Elasticsearch, index: str, tmp_path: Path
) -> None:
    name, value = key(admin, index, "read")
    (tmp_path / "key").write_text(value)
    with sending(writer(config(server, tmp_path / "key")), items(index, COUNT)) as future:
        time.sleep(0.5)
        assert not future.done()
        rights = {"sink": {"index": [{"names": [index], "privileges": ["create_doc"]}]}}
        admin.security.update_api_key(id=name, role_descriptors=rights)
        result = future.result(30)
    assert result.retries > 0
    assert_exact(admin, index, COUNT, result)


def test_a_secret_that_is_not_there_yet_is_awaited(
    server: ElasticsearchServer, admin: Elasticsearch, index: str, tmp_path: Path
) -> None:
    with sending(writer(config(server, tmp_path / "key")), items(index, 100)) as future:
        time.sleep(0.3)
        assert not future.done()
        (tmp_path / "key").write_text(key(admin, index, "create_doc")[1])
        result = future.result(30)
    assert_exact(admin, index, 100, result)


def test_a_certificate_of_unknown_origin_is_not_trusted(server: ElasticsearchServer, index: str) -> None:
    unknown = ElasticsearchConfig((server.url,), username="elastic", password=f"file:{server.password_file}")
    with pytest.raises(BulkGaveUp, match=r"TlsError.*certificate"):
        writer(unknown, retry_for=0.2).write(items(index, 10))


def test_plain_http_to_a_tls_port_rejects_no_item(server: ElasticsearchServer, index: str) -> None:
    plain = ElasticsearchConfig((server.url.replace("https", "http"),))
    with pytest.raises(BulkGaveUp, match="Check that Elasticsearch is up, and its address"):
        writer(plain, retry_for=0.2).write(items(index, 10))


def test_with_a_wrong_key_a_drain_ends_clearly_and_acknowledges_nothing(
    server: ElasticsearchServer, admin: Elasticsearch, make_queue: Callable[[], NotifiedQueue], tmp_path: Path
) -> None:
    set_up(admin)
    queue = make_queue()
    header = " ".join(DEFAULT_FORMAT).encode()
    row = b"2 123456789012 eni-1 10.0.0.1 10.0.0.2 40000 443 6 10 840 1764000000 1764000059 ACCEPT OK"
    boto3.client("s3").put_object(Bucket=queue.bucket, Key="a.log", Body=b"\n".join([header, row]))
    file = tmp_path / "key"
    file.write_text("bm8ta2V5OmF0LWFsbA==")
    letters = tmp_path / "letters"
    job = JobConfig(config(server, file), str(letters), (queue.bucket,), bulk=BulkConfig(retry_for=0.3), retry_for=0.3)
    with pytest.raises(RuntimeError, match=r"401 security_exception.*Check the credentials"):
        drain(job, queue.queue_url, [])
    assert not list(letters.rglob("*.avro"))
    file.write_text(key(admin, "flowlogs-*", "auto_configure", "read", "write", "maintenance")[1])
    done = drain(job, queue.queue_url, [])
    assert (done.messages_redelivered, done.messages_deleted, done.documents) == (1, 1, 1)
