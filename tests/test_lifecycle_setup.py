"""`flowlogs setup` where the server has lifecycle management, against a stand-in: no server at hand has it.

The stand-in takes what Elasticsearch's reference says that a policy may hold, and refuses everything else; so it shows
that ours are put in place in time and read back unchanged, and not that Elasticsearch carries them out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from elasticsearch import ApiError, Elasticsearch

from beam_flowlogs.elastic.lifecycle import Retention, policies
from beam_flowlogs.elastic.setup import NotSetUp, check_set_up, features, set_up

# docs/reference/elasticsearch/index-lifecycle-actions: the actions of each phase that is used here, and their options.
ACTIONS = {
    "hot": {"set_priority": {"priority"}, "rollover": set(), "readonly": set(), "forcemerge": set(), "shrink": set()},
    "warm": {"set_priority": {"priority"}, "readonly": set(), "allocate": set(), "migrate": {"enabled"}},
    "delete": {"delete": {"delete_searchable_snapshot"}, "wait_for_snapshot": {"policy"}},
}
AGE = re.compile(r"(\d+)(ms|s|m|h|d)")


def faults(policy: dict[str, Any]) -> list[str]:
    """What Elasticsearch would refuse of a policy, as `PUT _ilm/policy` takes it."""
    found = [f"unknown field [{name}]" for name in policy.keys() - {"phases", "_meta"}]
    for name, phase in policy["phases"].items():
        if name not in ACTIONS:
            found.append(f"unknown phase [{name}]")
            continue
        found += [f"unknown field [{field}] of {name}" for field in phase.keys() - {"min_age", "actions"}]
        if not AGE.fullmatch(phase.get("min_age", "0ms")):
            found.append(f"{name}: no age: {phase['min_age']}")
        for action, options in phase["actions"].items():
            known = ACTIONS[name].get(action)
            if known is None:
                found.append(f"invalid action [{action}] defined in phase [{name}]")
            elif options.keys() - known:
                found.append(f"unknown options of {action}: {sorted(options.keys() - known)}")
    return found


class Cluster:
    """Keeps templates and policies; `log` holds the paths of what was put, in order.

    `indices` have fields, by name, unless they are among the `blocked`; `fails` is a path that is not put once.
    """

    def __init__(self) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        self.templates: dict[tuple[str, str], dict[str, Any]] = {}
        self.log: list[str] = []
        self.indices: dict[str, dict[str, Any]] = {}
        self.blocked: set[str] = set()
        self.fails = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        path = unquote(path.partition("?")[0])
        kind, _, name = path.strip("/").rpartition("/")
        if path == "/_ilm/status":
            return 200, {"operation_mode": "RUNNING"}
        if path.startswith("/_index_template/_simulate"):
            return 200, {"template": {}, "overlapping": []}
        if kind == "" and method == "GET":
            return 200, {index: {} for index in self.indices if fnmatch(index, name)}
        if method == "PUT":
            if self.fails and fnmatch(self.fails, path):
                self.fails = ""
                return 500, {"error": {"type": "timeout", "reason": "once"}}
            if name == "_mapping":
                return self._add(kind, body["properties"])
            self.log.append(path)
            if kind == "_ilm/policy":
                wrong = faults(body["policy"])
                if wrong:
                    return 400, {"error": {"type": "illegal_argument_exception", "reason": str(wrong)}}
                self.policies[name] = body["policy"]
            else:
                self.templates[kind, name] = body
            return 200, {"acknowledged": True}
        if kind == "_ilm/policy":
            if name not in self.policies:
                return 404, {"error": {"type": "resource_not_found_exception"}, "status": 404}
            stored = {"version": 1, "modified_date": "2026-11-25T00:00:00.000Z", "in_use_by": {}}
            return 200, {name: stored | {"policy": self.policies[name]}}
        stored_template = self.templates.get((kind, name))
        if stored_template is None:
            return 404, {"error": {"type": "resource_not_found_exception"}, "status": 404}
        singular = kind.strip("_")
        return 200, {f"{singular}s": [{"name": name, singular: stored_template}]}

    def _add(self, pattern: str, properties: dict[str, Any]) -> tuple[int, Any]:
        meant = [index for index in self.indices if fnmatch(index, pattern)]
        if blocked := self.blocked.intersection(meant):
            return 403, {"error": {"type": "cluster_block_exception", "reason": f"index {sorted(blocked)} blocked"}}
        for index in meant:
            self.indices[index] |= properties
        return 200, {"acknowledged": True}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Elasticsearch]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = cluster.answer(self.command, self.path, json.loads(data) if data else {})
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = _do  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with Elasticsearch(f"http://127.0.0.1:{server.server_address[1]}") as client:
        yield client
    server.shutdown()
    server.server_close()


def test_policies_are_there_before_the_templates_that_name_them_and_stay_as_they_are(
    client: Elasticsearch, cluster: Cluster
) -> None:
    assert features(client).lifecycles
    assert {change.what for change in set_up(client)} == {"created"}
    assert cluster.log[:2] == ["/_ilm/policy/flowlogs-raw", "/_ilm/policy/flowlogs-rollup"]
    settings = {
        name: body["template"]["settings"]["index"]
        for (_, name), body in cluster.templates.items()
        if name.endswith("@settings")
    }
    named = {name: index["lifecycle"]["name"] for name, index in settings.items() if "lifecycle" in index}
    assert named == {"flowlogs-raw@settings": "flowlogs-raw", "flowlogs-rollup@settings": "flowlogs-rollup"}
    assert set(named.values()) == cluster.policies.keys()
    assert {change.what for change in set_up(client)} == {"unchanged"}


def test_another_retention_changes_the_policy_and_a_dry_run_shows_it(client: Elasticsearch, cluster: Cluster) -> None:
    set_up(client)
    shown = set_up(client, retention=Retention(raw_days=7), dry_run=True)
    changed = [change for change in shown if change.what != "unchanged"]
    assert [(change.kind, change.name) for change in changed] == [("lifecycle policy", "flowlogs-raw")]
    assert changed[0].lines == ["- phases.delete.min_age: 31d", "+ phases.delete.min_age: 8d"]
    assert cluster.policies["flowlogs-raw"]["phases"]["delete"]["min_age"] == "31d"
    set_up(client, retention=Retention(raw_days=7))
    assert cluster.policies["flowlogs-raw"]["phases"]["delete"]["min_age"] == "8d"


@pytest.mark.parametrize("days", [1, 2, 3, 30, 400])
def test_policies_are_what_elasticsearchs_reference_allows_with_ages_that_grow(days: int) -> None:
    for policy in policies(Retention(raw_days=days, rollup_days=days)).values():
        assert faults(policy) == []
        ages = [int(AGE.fullmatch(phase["min_age"])[1]) for phase in policy["phases"].values()]  # type: ignore[index]
        assert ages == sorted(ages)
        assert list(policy["phases"]) in (["hot", "warm", "delete"], ["hot", "delete"])


def test_the_stand_in_refuses_what_elasticsearch_would() -> None:
    (policy, _) = policies(Retention()).values()
    assert faults(policy | {"phase": {}}) == ["unknown field [phase]"]
    wrong = {"warm": {"min_age": "2 days", "actions": {"rollover": {}, "set_priority": {"level": 1}}}}
    assert len(faults({"phases": wrong})) == 3


def test_fields_that_could_not_be_added_are_added_the_next_time(client: Elasticsearch, cluster: Cluster) -> None:
    cluster.indices = {"flowlogs-rollup-2026.11": {}}
    cluster.fails = "/flowlogs-rollup-2026.11/_mapping"
    with pytest.raises(ApiError):
        set_up(client)
    with pytest.raises(NotSetUp):
        check_set_up(client)

    set_up(client)

    assert "flowlogs" in cluster.indices["flowlogs-rollup-2026.11"]
    check_set_up(client)


def test_an_index_that_comes_back_gets_the_fields_though_the_template_is_unchanged(
    client: Elasticsearch, cluster: Cluster
) -> None:
    set_up(client)
    cluster.indices = {"flowlogs-rollup-2026.01": {}, "flowlogs-alerts": {}, "flowlogs-raw-2026.01.01": {}}
    set_up(client, dry_run=True)
    assert not any(cluster.indices.values())

    assert {change.what for change in set_up(client)} == {"unchanged"}

    assert [index for index, fields in cluster.indices.items() if not fields] == ["flowlogs-raw-2026.01.01"]


def test_an_index_with_a_block_keeps_the_fields_from_no_other_and_is_named(
    client: Elasticsearch, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.indices = {f"flowlogs-rollup-2026.{month}": {} for month in ("09", "10", "11")}
    cluster.blocked = {"flowlogs-rollup-2026.10"}

    set_up(client)

    assert [index for index, fields in cluster.indices.items() if not fields] == ["flowlogs-rollup-2026.10"]
    (warning,) = [record for record in caplog.records if record.name.startswith("beam_flowlogs")]
    assert "flowlogs-rollup-2026.10" in warning.getMessage()
    assert "take the block away" in warning.getMessage()
    assert "`flowlogs setup` again" in warning.getMessage()
