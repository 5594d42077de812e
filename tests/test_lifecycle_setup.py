"""`flowlogs setup` where the server has lifecycle management, against a stand-in: no server at hand has it.

The stand-in takes what Elasticsearch's reference says that a policy may hold, and refuses everything else; so it shows
that ours are put in place in time and read back unchanged, and not that Elasticsearch carries them out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from elasticsearch import Elasticsearch

from beam_flowlogs.elastic.lifecycle import Retention, policies
from beam_flowlogs.elastic.setup import features, set_up

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
    """Keeps templates and policies; `log` holds the paths of what was put, in order."""

    def __init__(self) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        self.templates: dict[tuple[str, str], dict[str, Any]] = {}
        self.log: list[str] = []

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        path = unquote(path.partition("?")[0])
        kind, _, name = path.strip("/").rpartition("/")
        if path == "/_ilm/status":
            return 200, {"operation_mode": "RUNNING"}
        if path.startswith("/_index_template/_simulate"):
            return 200, {"template": {}, "overlapping": []}
        if method == "PUT":
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
