from __future__ import annotations

import base64
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_flowlogs import secret
from beam_flowlogs.bulk import BulkConfig
from beam_flowlogs.bulk_item import ItemFormat
from beam_flowlogs.elastic.connection import ElasticsearchConfig, bulk_writer, connect
from beam_flowlogs.transforms.write_elasticsearch import WriteToElasticsearch
from tests.fake_elasticsearch import FakeElasticsearch, error
from tests.graph_text import graph_text

URL = "https://search.example:9200"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_values", {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either urls or a cloud_id"),
        ({"urls": (URL,), "cloud_id": "x:y"}, "either urls or a cloud_id"),
        ({"urls": ("search.example:9200",)}, "https://host:9200"),
        ({"urls": ("ftp://search.example",)}, "https://host:9200"),
        ({"urls": ("https://search.example:port",)}, "https://host:9200"),
        ({"urls": (URL,), "username": "u"}, "username and password"),
        ({"urls": (URL,), "password": "env:P"}, "username and password"),
        ({"urls": (URL,), "api_key": "env:A", "bearer": "env:B"}, "one of api_key"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_with_the_cure(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ElasticsearchConfig(**arguments)


def test_one_address_is_written_as_a_tuple_too() -> None:
    with pytest.raises(TypeError, match=r"write \(url,\)"):
        ElasticsearchConfig(urls=URL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [{"urls": ("hunter2",)}, {"urls": ("https://h:hunter2",)}, {"urls": ("hunter2://h",)}, {"cloud_id": "hunter2"}],
)
def test_what_may_be_a_secret_in_the_wrong_place_is_not_repeated(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not shown") as caught:
        ElasticsearchConfig(**arguments)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)).replace("ElasticsearchConfig(**", "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"urls": ("https://elastic:hunter2@search.example:9200",)},
        {"urls": ("elastic:hunter2@search.example:9200",)},
        {"urls": ("https://elastic:12#hunter2@search.example:9200",)},
        {"urls": ("https://elastic:12/hunter2@search.example:9200",)},
        {"urls": ("https://search.example:9200/?api_key=hunter2",)},
        {"urls": (URL,), "api_key": "hunter2"},
        {"urls": (URL,), "username": "u", "password": "hunter2"},
        {"urls": (URL,), "bearer": "hunter2"},
    ],
)
def test_a_secret_given_in_person_is_refused_and_not_repeated(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="env:") as caught:
        ElasticsearchConfig(**arguments)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2" not in f"{chain!r} {chain}"
        chain = chain.__cause__


def test_the_environment_gives_addresses_and_only_the_names_of_secrets() -> None:
    config = ElasticsearchConfig.from_environment(
        {
            "ELASTICSEARCH_URL": "https://a:9200, https://b:9200",
            "ELASTICSEARCH_API_KEY": "hunter2",
            "ELASTICSEARCH_CA_CERTS": "/ca.pem",
        }
    )
    assert config == ElasticsearchConfig(
        urls=("https://a:9200", "https://b:9200"), api_key="env:ELASTICSEARCH_API_KEY", ca_certs="/ca.pem"
    )
    basic = {"ELASTICSEARCH_URL": URL, "ELASTICSEARCH_USERNAME": "u", "ELASTICSEARCH_PASSWORD": "hunter2"}
    assert ElasticsearchConfig.from_environment(basic).password == "env:ELASTICSEARCH_PASSWORD"


@pytest.mark.parametrize(
    "reference",
    ["file:/run/secrets/key", "env:OTHER", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:flowlogs-AbCdEf"],
)
def test_a_secret_variable_may_say_where_the_secret_is(reference: str) -> None:
    config = ElasticsearchConfig.from_environment({"ELASTICSEARCH_URL": URL, "ELASTICSEARCH_API_KEY": reference})
    assert config.api_key == reference


def test_an_environment_without_an_address_says_how_to_get_one() -> None:
    with pytest.raises(ValueError, match=r"ELASTICSEARCH_URL.*flowlogs local up"):
        ElasticsearchConfig.from_environment({})


@pytest.mark.parametrize(
    ("arguments", "authorization"),
    [
        ({"api_key": "env:THE_SECRET"}, "ApiKey hunter2"),
        ({"bearer": "env:THE_SECRET"}, "Bearer hunter2"),
        (
            {"username": "elastic", "password": "env:THE_SECRET"},
            "Basic " + base64.b64encode(b"elastic:hunter2").decode(),
        ),
    ],
)
def test_credentials_travel_in_the_header_and_a_rotated_one_replaces_the_old(
    arguments: dict[str, Any], authorization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeElasticsearch() as server:
        config = ElasticsearchConfig(urls=(server.url,), **arguments)
        for value in ("hunter2", "rotated"):
            monkeypatch.setenv("THE_SECRET", value)
            monkeypatch.setattr(secret, "_values", {})
            connect(config).perform_request("POST", "/_bulk", headers={"content-type": "application/json"}, body=b"")
        first, second = (headers["authorization"] for headers in server.headers)
    assert first == authorization
    assert second != authorization


def test_all_clients_of_a_configuration_share_one_set_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "hunter2")
    config = ElasticsearchConfig(urls=(URL,), api_key="env:THE_SECRET")
    assert connect(config).transport is connect(pickle.loads(pickle.dumps(config))).transport
    assert bulk_writer(config, BulkConfig()) is bulk_writer(config, BulkConfig())


def test_certificates_are_verified_unless_told_otherwise() -> None:
    def node(**arguments: Any) -> Any:
        (found,) = connect(ElasticsearchConfig(urls=(URL,), **arguments)).transport.node_pool.all()
        return found.config

    assert node().verify_certs is not False
    with pytest.warns(Warning, match="insecure"):
        assert node(verify_certs=False).verify_certs is False


def test_a_cloud_id_leads_to_its_host_over_https() -> None:
    cloud_id = "name:" + base64.b64encode(b"cloud.example$0123abcd$").decode()
    (node,) = connect(ElasticsearchConfig(cloud_id=cloud_id)).transport.node_pool.all()
    assert node.base_url == "https://0123abcd.cloud.example:443"


@pytest.mark.parametrize(
    ("url", "address"),
    [("http://h", "http://h:9200"), ("https://h", "https://h:443"), ("https://h/es", "https://h:443/es"), (URL, URL)],
)
def test_an_address_without_a_port_gets_its_schemes_one(url: str, address: str) -> None:
    (node,) = connect(ElasticsearchConfig(urls=(url,))).transport.node_pool.all()
    assert node.base_url == address


def test_another_host_takes_over_when_one_is_gone() -> None:
    with FakeElasticsearch() as gone:
        pass
    with FakeElasticsearch() as server:
        client = connect(ElasticsearchConfig(urls=(gone.url, server.url)))
        for _ in range(4):
            client.perform_request("POST", "/_bulk", headers={"content-type": "application/json"}, body=b"")
        assert len(server.bodies) == 4


def test_bodies_are_compressed_on_demand() -> None:
    body = b'{"create":{"_index":"i","_id":"7"}}\n{}\n'
    with FakeElasticsearch() as server:
        for compress in (True, False):
            client = connect(ElasticsearchConfig(urls=(server.url,), http_compress=compress))
            client.perform_request("POST", "/_bulk", headers={"content-type": "application/x-ndjson"}, body=body)
        assert [headers.get("content-encoding") for headers in server.headers] == ["gzip", None]
        assert server.bodies == [["7"], ["7"]]


@pytest.mark.parametrize("kind", ["api_key", "bearer", "password"])
def test_a_secret_is_in_no_option_log_error_or_pipeline(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    value = "hunter2-very-secret"
    (tmp_path / "secret").write_text(value)
    arguments: dict[str, Any] = {kind: f"file:{tmp_path / 'secret'}"} | (
        {"username": "elastic"} if kind == "password" else {}
    )
    impatient = BulkConfig(retry_for=0.1, first_delay=0.01, longest_delay=0.02)
    with FakeElasticsearch() as server, caplog.at_level(logging.DEBUG):
        server.answers.extend([error(401, "security_exception", "unable to authenticate")] * 1000)
        config = ElasticsearchConfig(urls=(server.url,), **arguments)
        options = PipelineOptions([])
        pipeline = beam.Pipeline("FnApiRunner", options=options)
        pipeline | beam.Create([{"_id": "1"}]) | WriteToElasticsearch(config, ItemFormat("i"), bulk=impatient)
        with pytest.raises(RuntimeError, match="unable to authenticate") as caught:
            pipeline.run().wait_until_finish()
        assert all("authorization" in headers for headers in server.headers)
    output = capfd.readouterr()
    everything = {
        "configuration": repr(config) + str(pickle.dumps(config)),
        "options": str(options.get_all_options()) + str(options.display_data()),
        "pipeline": graph_text(pipeline),
        "error": "".join(traceback.format_exception(caught.value)),
        "log": caplog.text,
        "output": output.out + output.err,
    }
    forms = [value, base64.b64encode(f"elastic:{value}".encode()).decode()]
    assert [place for place, text in everything.items() if any(form in text for form in forms)] == []
    assert "POST /_bulk" in everything["log"]  # the transport's own DEBUG lines were among them
