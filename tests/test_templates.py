"""Templates and lifecycle policies, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from beam_flowlogs.elastic.lifecycle import Retention, parse_days, policies
from beam_flowlogs.elastic.templates import IndexLayout, raw_mapping, templates
from beam_flowlogs.fields import DERIVED, FIELDS


def _leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, mapping in properties.items():
        if "properties" in mapping:
            yield from _leaves(mapping["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name, mapping


RAW = dict(_leaves(raw_mapping()["properties"]))


def _settings(name: str, layout: IndexLayout | None = None, **able: bool) -> dict[str, Any]:
    made = templates(layout or IndexLayout(), **({"logsdb": True, "lifecycles": True} | able))
    settings: dict[str, Any] = made.components[f"{name}@settings"]["template"]["settings"]["index"]
    return settings


def test_every_field_of_the_table_is_mapped_with_its_type() -> None:
    expected = {field.path: field.kind.es_type for field in FIELDS}
    for field in FIELDS:
        expected |= field.copies
    expected |= {field.path: field.es_type for field in DERIVED}
    assert {path: mapping["type"] for path, mapping in RAW.items()} == expected


def test_every_raw_field_keeps_doc_values_because_they_are_what_is_searched_and_aggregated() -> None:
    assert [path for path, mapping in RAW.items() if mapping.get("doc_values") is False] == []


def test_only_time_and_addresses_have_an_index_of_their_own() -> None:
    indexed = {path for path, mapping in RAW.items() if mapping.get("index", True)}
    assert indexed == {"@timestamp", "source.ip", "destination.ip", "related.ip"}


def test_unknown_members_are_errors_except_what_aws_may_add() -> None:
    mapping = raw_mapping()
    assert mapping["dynamic"] == "strict"
    assert mapping["properties"]["aws"]["properties"]["vpcflow"]["dynamic"] == "true"


def test_raw_indices_are_logsdb_only_where_the_server_knows_it() -> None:
    assert _settings("flowlogs-raw")["mode"] == "logsdb"
    assert "mode" not in _settings("flowlogs-raw", logsdb=False)
    assert "mode" not in _settings("flowlogs-rollup")


def test_indices_name_a_policy_only_where_there_are_policies() -> None:
    for name in ("flowlogs-raw", "flowlogs-rollup"):
        assert _settings(name)["lifecycle"] == {"name": name}
        assert name in policies(Retention())
        assert "lifecycle" not in _settings(name, lifecycles=False)


def test_the_layout_reaches_the_settings() -> None:
    assert _settings("flowlogs-raw")["auto_expand_replicas"] == "0-1"
    chosen = IndexLayout(raw_shards=3, replicas=2)
    assert (
        _settings("flowlogs-raw", chosen)["number_of_shards"],
        _settings("flowlogs-raw", chosen)["number_of_replicas"],
    ) == (3, 2)
    assert _settings("flowlogs-rollup", chosen)["number_of_shards"] == 1
    assert "auto_expand_replicas" not in _settings("flowlogs-raw", chosen)


def test_the_operators_own_component_comes_last_so_that_it_wins() -> None:
    for name, body in templates(IndexLayout(), logsdb=True, lifecycles=False).indices.items():
        assert body["composed_of"][-1] == f"{name}@custom"
        assert body["ignore_missing_component_templates"] == [f"{name}@custom"]


@pytest.mark.parametrize("wrong", [{"raw_shards": 0}, {"raw_shards": 1025}, {"replicas": -1}])
def test_a_layout_that_elasticsearch_would_refuse_is_refused_first(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="use "):
        IndexLayout(**wrong)


def test_policies_delete_no_earlier_than_the_last_record_is_old_enough() -> None:
    made = policies(Retention(raw_days=30, rollup_days=400))
    ages = {name: body["phases"]["delete"]["min_age"] for name, body in made.items()}
    assert ages == {"flowlogs-raw": "31d", "flowlogs-rollup": "431d"}


def test_no_policy_makes_an_index_read_only_since_late_objects_must_find_it_open() -> None:
    for body in policies(Retention()).values():
        actions = {action for phase in body["phases"].values() for action in phase["actions"]}
        assert actions == {"set_priority", "delete"}


def test_a_short_retention_skips_the_warm_phase() -> None:
    assert "warm" not in policies(Retention(raw_days=1))["flowlogs-raw"]["phases"]
    assert "warm" in policies(Retention(raw_days=7))["flowlogs-raw"]["phases"]


def test_ages_are_whole_days() -> None:
    assert parse_days("30d") == 30
    for wrong in ("30", "d", "1.5d", "-1d", "30h", "", "1d "):
        with pytest.raises(ValueError, match="whole days"):
            parse_days(wrong)
    with pytest.raises(ValueError, match="1 day or more"):
        Retention(raw_days=0)
