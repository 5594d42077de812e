"""What is in Elasticsearch now, in a few numbers: for a first look, and for tests that check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from elasticsearch import Elasticsearch

from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.elastic.verify import WINDOW, WITH_TRAFFIC, window_lengths
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

_RAW = f"{RAW_INDEX_PREFIX}*"
_ROLLUP = f"{ROLLUP_INDEX_PREFIX}*"
_TOP = 5
_TRAFFIC = ("flows", "bytes", "packets")


class Interface(NamedTuple):
    """Traffic of one interface over all windows."""

    key: str
    account: str
    region: str
    flows: int
    bytes: int
    rejected: int


class Rejected(NamedTuple):
    """Rejected flows to one destination port, and the source that knocked most."""

    port: int
    flows: int
    sources: int
    busiest_source: str


class Comparison(NamedTuple):
    """One roll-up's totals, and the sums over its raw documents."""

    id: str
    key: str
    window: str
    rolled_up: Mapping[str, int]
    recounted: Mapping[str, int]


class Summary(NamedTuple):
    """What is indexed. ``first`` and ``last`` are the times of the oldest and newest record, empty if there is none."""

    documents: int
    rollups: int
    by_status: dict[str, int]
    by_action: dict[str, int]
    accounts: int
    regions: int
    first: str
    last: str
    interfaces: list[Interface]
    rejected: list[Rejected]
    comparison: Comparison | None


def summarize(client: Elasticsearch) -> Summary:
    """Return what is in the raw and roll-up indices."""
    client.indices.refresh(index=f"{_RAW},{_ROLLUP}", ignore_unavailable=True)
    raw = _search(client, _RAW, _raw_aggregations())
    found = raw["aggregations"] if raw["hits"]["total"]["value"] else None
    rollups = client.count(index=_ROLLUP, ignore_unavailable=True)["count"]
    return Summary(
        documents=raw["hits"]["total"]["value"],
        rollups=rollups,
        by_status=_terms(found, "status"),
        by_action=_terms(found, "action"),
        accounts=int(found["accounts"]["value"]) if found else 0,
        regions=int(found["regions"]["value"]) if found else 0,
        first=found["first"].get("value_as_string", "") if found else "",
        last=found["last"].get("value_as_string", "") if found else "",
        interfaces=_interfaces(client) if rollups else [],
        rejected=[_rejected(bucket) for bucket in found["rejected"]["ports"]["buckets"]] if found else [],
        comparison=_compare_busiest(client) if rollups else None,
    )


def _search(client: Elasticsearch, index: str, aggregations: dict[str, Any], query: Any = None) -> Any:
    return client.search(
        index=index,
        ignore_unavailable=True,
        allow_partial_search_results=False,
        size=0,
        track_total_hits=True,
        query=query,
        aggs=aggregations,
    )


def _raw_aggregations() -> dict[str, Any]:
    return {
        "status": {"terms": {"field": "aws.vpcflow.log_status"}},
        "action": {"terms": {"field": "event.action"}},
        "accounts": {"cardinality": {"field": "cloud.account.id"}},
        "regions": {"cardinality": {"field": "cloud.region"}},
        "first": {"min": {"field": "@timestamp"}},
        "last": {"max": {"field": "@timestamp"}},
        "rejected": {
            "filter": {"term": {"event.action": "REJECT"}},
            "aggs": {
                "ports": {
                    "terms": {"field": "destination.port", "size": _TOP},
                    "aggs": {
                        "sources": {"cardinality": {"field": "source.ip"}},
                        "busiest": {"terms": {"field": "source.ip", "size": 1}},
                    },
                }
            },
        },
    }


def _terms(found: Any, name: str) -> dict[str, int]:
    return {bucket["key"]: bucket["doc_count"] for bucket in found[name]["buckets"]} if found else {}


def _rejected(bucket: Any) -> Rejected:
    busiest = bucket["busiest"]["buckets"]
    return Rejected(
        bucket["key"], bucket["doc_count"], int(bucket["sources"]["value"]), busiest[0]["key"] if busiest else ""
    )


def _interfaces(client: Elasticsearch) -> list[Interface]:
    sums = {name: {"sum": {"field": f"flowlogs.rollup.{name}"}} for name in ("flows", "bytes", "rejected.flows")}
    named = {name: {"terms": {"field": f"cloud.{name}", "size": 1}} for name in ("account.id", "region")}
    top = {"field": "flowlogs.rollup.key", "size": _TOP, "order": {"bytes": "desc"}}
    window = f"{min(window_lengths(client))}s"  # the longer ones hold the same traffic again
    answer = _search(client, _ROLLUP, {"keys": {"terms": top, "aggs": {**sums, **named}}}, {"term": {WINDOW: window}})
    return [_interface(bucket) for bucket in answer["aggregations"]["keys"]["buckets"]]


def _interface(bucket: Any) -> Interface:
    account, region = (
        next((found["key"] for found in bucket[name]["buckets"]), "") for name in ("account.id", "region")
    )
    flows, total, rejected = (int(bucket[name]["value"]) for name in ("flows", "bytes", "rejected.flows"))
    return Interface(bucket["key"], account, region, flows, total, rejected)


def _compare_busiest(client: Elasticsearch) -> Comparison | None:
    hits = client.search(
        index=_ROLLUP,
        allow_partial_search_results=False,
        size=1,
        query={"term": {"flowlogs.rollup.key_type": "interface"}},
        sort=[{"flowlogs.rollup.flows": "desc"}, "flowlogs.rollup.key"],
        source_excludes=["flowlogs.rollup.parts"],
    )["hits"]["hits"]
    if not hits:
        return None
    source = hits[0]["_source"]
    rollup, event = source["flowlogs"]["rollup"], source["event"]
    conditions = [
        {"term": {"aws.vpcflow.interface_id": rollup["key"]}},
        WITH_TRAFFIC,
        {"range": {"@timestamp": {"gte": event["start"], "lt": event["end"]}}},
    ]
    sums = {name: {"sum": {"field": f"network.{name}"}} for name in ("bytes", "packets")}
    recounted = _search(client, _RAW, sums, {"bool": {"filter": conditions}})
    return Comparison(
        hits[0]["_id"],
        rollup["key"],
        f"{event['start']} to {event['end']}",
        {name: rollup[name] for name in _TRAFFIC},
        {
            "flows": recounted["hits"]["total"]["value"],
            **{name: int(recounted["aggregations"][name]["value"]) for name in sums},
        },
    )
