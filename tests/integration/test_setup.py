"""`flowlogs setup` on every release of Elasticsearch that is at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import BadRequestError, Elasticsearch
from typer.testing import CliRunner

from beam_flowlogs.cli import app
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.elastic.setup import NotSetUp, check_set_up, features, set_up
from beam_flowlogs.elastic.templates import VERSION, IndexLayout
from beam_flowlogs.fields import FIELDS, TRANSIT_GATEWAY_FORMAT, vpc_format
from beam_flowlogs.generate import encode_text
from beam_flowlogs.inflate import Limits
from beam_flowlogs.local.distribution import RELEASES, choose
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.local.errors import LocalStackError
from beam_flowlogs.local.folders import cache_folder
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey, merge

pytestmark = pytest.mark.integration

INDEX = "flowlogs-raw-2026.11.24"
START = 1_795_478_400


@pytest.fixture(scope="module", params=[release.version for release in RELEASES])
def server(
    request: pytest.FixtureRequest, make_home: Callable[[], Path], elasticsearch_options: dict[str, Any]
) -> Iterator[ElasticsearchServer]:
    version: str = request.param
    try:
        choose(version)
    except LocalStackError as error:
        pytest.skip(str(error))
    cache = elasticsearch_options["cache"] or cache_folder()
    if version != choose()[0].version and not (cache / f"elasticsearch-{version}").exists():
        pytest.skip(f"Elasticsearch {version} is not in {cache}: a gigabyte that is fetched only for the default one")
    with ElasticsearchServer(make_home(), **(elasticsearch_options | {"version": version})) as started:
        yield started


@pytest.fixture
def client(server: ElasticsearchServer) -> Elasticsearch:
    """A server that has never been set up."""
    client = Elasticsearch(server.url)
    for index in list(client.indices.get(index="flowlogs-*")):
        client.indices.delete(index=index)
    quiet = client.options(ignore_status=404)
    for template in ("flowlogs-raw", "flowlogs-rollup", "flowlogs-alerts"):
        quiet.indices.delete_index_template(name=template)
        for part in ("settings", "mappings", "custom"):
            quiet.cluster.delete_component_template(name=f"{template}@{part}")
    return client


def _fates(client: Elasticsearch, *arguments: Any, **options: Any) -> set[str]:
    return {change.what for change in set_up(client, *arguments, **options)}


def _documents(names: tuple[str, ...], records: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """What the pipeline would index of these records."""
    (rows,) = decode(iter([encode_text(records, names)]), Limits())
    items = bulk_items(rows, Origin("a-bucket", "a/key", "A" * 16, "123456789012", "eu-west-1"))
    return [json.loads(item.as_py().split(b"\n")[1]) for item in items]


def _every_field(names: tuple[str, ...]) -> dict[str, Any]:
    """A document of a record that logs every field of a format."""
    special = {
        "srcaddr": "10.0.0.1", "dstaddr": "2001:db8::1", "pkt-srcaddr": "10.0.0.3", "pkt-dstaddr": "10.0.0.4",
        "start": START, "end": START + 59, "protocol": 6, "action": "ACCEPT", "log-status": "OK",
        "flow-direction": "egress", "tcp-flags": 19, "srcport": 40000, "dstport": 443,
    }  # fmt: skip
    known = {field.name: field for field in FIELDS}
    values = {name: [special.get(name, 7 if known[name].kind.is_number else f"a-{name}")] for name in names}
    (document,) = _documents(names, values)
    return document


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", sorted(value) if isinstance(value, list) else [value]


def test_twice_changes_nothing_and_a_dry_run_changes_nothing_at_all(client: Elasticsearch) -> None:
    assert _fates(client, dry_run=True) == {"created"}
    with pytest.raises(NotSetUp, match="flowlogs setup"):
        check_set_up(client)
    assert _fates(client) == {"created"}
    check_set_up(client)
    assert _fates(client) == {"unchanged"}


def test_a_dry_run_shows_the_difference_line_by_line(client: Elasticsearch) -> None:
    set_up(client)
    changed = [c for c in set_up(client, IndexLayout(raw_shards=2), dry_run=True) if c.what == "updated"]
    assert [change.name for change in changed] == ["flowlogs-raw@settings"]
    assert changed[0].lines == [
        "- template.settings.index.number_of_shards: 1",
        "+ template.settings.index.number_of_shards: 2",
    ]
    assert _fates(client) == {"unchanged"}


def test_what_somebody_changed_by_hand_is_put_right(client: Elasticsearch) -> None:
    set_up(client)
    client.cluster.put_component_template(name="flowlogs-raw@mappings", template={"mappings": {}}, version=VERSION)
    assert _fates(client) == {"unchanged", "updated"}
    assert _fates(client) == {"unchanged"}


def test_indices_of_roll_ups_that_there_are_get_the_fields_of_a_new_version(client: Elasticsearch) -> None:
    index = "flowlogs-rollup-2020.01"
    older = {"dynamic": "strict", "properties": {"@timestamp": {"type": "date"}}}
    client.cluster.put_component_template(
        name="flowlogs-rollup@mappings", template={"mappings": older}, version=VERSION - 1
    )
    client.indices.create(index=index, mappings=older)
    part = Part("object", [0] * len(COUNTERS), START * 1000, START * 1000, {"ecs_service_name": "shop"})
    document = json.loads(merge(RollUpKey(60, START, "interface", "eni-1"), None, [part]).document())

    try:
        set_up(client)
        client.index(index=index, document=document, refresh=True)
        found = client.count(index=index, query={"term": {"service.name": "shop"}})["count"]
    finally:
        client.indices.delete(index=index)

    assert found == 1


def test_a_newer_template_is_left_alone(client: Elasticsearch) -> None:
    set_up(client)
    client.cluster.put_component_template(name="flowlogs-raw@mappings", template={"mappings": {}}, version=VERSION + 1)
    assert _fates(client) == {"unchanged", "newer"}


def test_an_older_template_is_not_enough_to_start_with(client: Elasticsearch) -> None:
    set_up(client)
    client.indices.put_index_template(name="flowlogs-raw", index_patterns=["flowlogs-raw-*"], version=VERSION - 1)
    with pytest.raises(NotSetUp, match=r"flowlogs-raw is of an older version"):
        check_set_up(client)


def test_the_operators_own_component_wins_and_survives(client: Elasticsearch) -> None:
    set_up(client)
    client.cluster.put_component_template(
        name="flowlogs-raw@custom", template={"settings": {"index": {"refresh_interval": "42s"}}}
    )
    assert _fates(client) == {"unchanged"}
    client.indices.create(index=INDEX)
    settings = client.indices.get_settings(index=INDEX)[INDEX]["settings"]["index"]
    assert settings["refresh_interval"] == "42s"
    assert settings["sort"]["field"] == ["aws.vpcflow.interface_id", "@timestamp"]
    assert (settings.get("mode") == "logsdb") is features(client).logsdb


@pytest.mark.parametrize("names", [vpc_format(11), TRANSIT_GATEWAY_FORMAT], ids=["vpc", "transit-gateway"])
def test_every_field_comes_back_and_can_be_searched_and_counted(client: Elasticsearch, names: tuple[str, ...]) -> None:
    set_up(client)
    document = _every_field(names)
    client.create(index=INDEX, id="1", document=document, refresh=True)
    found = client.search(index=INDEX)["hits"]["hits"][0]["_source"]
    expected = dict(_flat(document))
    came_back = dict(_flat(found))
    times = ("@timestamp", "event.start", "event.end")
    assert {path: came_back[path] for path in expected if path not in times} == {
        path: value for path, value in expected.items() if path not in times
    }
    assert came_back.keys() == expected.keys()
    assert found["@timestamp"] in ("2026-11-24T00:00:59Z", "2026-11-24T00:00:59.000Z")
    for path, (value, *_) in expected.items():
        answer = client.search(
            index=INDEX, size=0, query={"term": {path: value}}, aggs={"values": {"terms": {"field": path}}}
        )
        assert answer["hits"]["total"]["value"] == 1, path
        assert answer["aggregations"]["values"]["buckets"], path


def test_a_field_that_aws_adds_is_kept_and_anything_else_unknown_is_refused(client: Elasticsearch) -> None:
    set_up(client)
    (document,) = _documents(("interface-id", "end", "moon-phase"), {"end": [START], "moon-phase": ["full"]})
    client.create(index=INDEX, id="1", document=document, refresh=True)
    query = {"term": {"aws.vpcflow.moon_phase": "full"}}
    assert client.search(index=INDEX, query=query)["hits"]["hits"][0]["_source"]["aws"] == document["aws"]
    with pytest.raises(BadRequestError, match="strict_dynamic_mapping_exception"):
        client.create(index=INDEX, id="2", document=document | {"moon": "full"})
    with pytest.raises(BadRequestError, match="document_parsing_exception"):
        client.create(index=INDEX, id="3", document=document | {"source": {"port": "no number"}})


def test_the_command_says_what_it_did_and_what_retention_is_left_to_do(
    client: Elasticsearch, server: ElasticsearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", server.url)
    run = CliRunner()
    dry = run.invoke(app, ["setup", "--dry-run"])
    assert "index template flowlogs-raw: would be created" in dry.output
    done = run.invoke(app, ["setup"])
    assert done.exit_code == 0
    assert "index template flowlogs-raw: created" in done.output
    assert ("flowlogs prune" in done.output) is not features(client).lifecycles
    difference = run.invoke(app, ["setup", "--dry-run", "--replicas", "0"])
    assert "  + template.settings.index.number_of_replicas: 0" in difference.output
    wrong = run.invoke(app, ["setup", "--keep-raw", "1 month"])
    assert wrong.exit_code == 2
    assert "whole days" in wrong.output


def test_a_data_stream_takes_documents_once_until_it_rolls_over(client: Elasticsearch) -> None:
    """The caveat of docs/elasticsearch.md, as the server has it."""
    set_up(client)
    client.indices.put_index_template(
        name="own-streams",
        index_patterns=["flowlogs-raw-*"],
        priority=400,
        data_stream={},
        composed_of=["flowlogs-raw@settings", "flowlogs-raw@mappings"],
        template={"lifecycle": {"data_retention": "31d"}},
    )
    try:
        (stored,) = client.indices.get_index_template(name="own-streams")["index_templates"]
        assert stored["index_template"]["template"]["lifecycle"]["data_retention"] == "31d"
        (document,) = _documents(("interface-id", "end"), {"interface-id": ["eni-1"], "end": [START]})
        first = client.options(ignore_status=409).create(index=INDEX, id="1", document=document, refresh=True)
        again = client.options(ignore_status=409).create(index=INDEX, id="1", document=document, refresh=True)
        client.indices.rollover(alias=INDEX)
        late = client.options(ignore_status=409).create(index=INDEX, id="1", document=document, refresh=True)
        assert (first.meta.status, again.meta.status, late.meta.status) == (201, 409, 201)
        assert client.count(index=INDEX)["count"] == 2
    finally:
        client.options(ignore_status=(400, 404, 405)).indices.delete_data_stream(name=INDEX)
        client.options(ignore_status=(400, 404)).indices.delete(index=INDEX)
        client.options(ignore_status=404).indices.delete_index_template(name="own-streams")
