"""The default rules on generated traffic: every incident is found in time, and nothing else is."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import pytest

from beam_flowlogs.alert_past import Past, Rolled
from beam_flowlogs.alert_rules import DEFAULT_RULES, Finding, evaluate
from beam_flowlogs.document import Origin
from beam_flowlogs.fields import TRANSIT_GATEWAY_FORMAT, vpc_format
from beam_flowlogs.generate import GeneratorConfig, Truth, generate
from beam_flowlogs.inflate import Limits
from beam_flowlogs.object_parts import PartsOfObject
from beam_flowlogs.record_batch import decode
from beam_flowlogs.rollup import RollUpKey
from tests.rollup_records import merged

START = 1_767_268_800
RULE_OF = {
    "port-scan": "port-scan",
    "peer-stops": "unanswered",
    "reject-burst": "rejected-port",
    "skipdata": "skipdata",
    "silent-interface": "silent",
    "bytes-spike": "bytes-spike",
}
DELAYS = {"port-scan": 60, "peer-stops": 180, "reject-burst": 60, "skipdata": 120, "silent-interface": 180,
          "bytes-spike": 120}  # fmt: skip
"""Seconds from an incident's start to the end of the first window that its rule holds in, at most."""


class Watched(NamedTuple):
    truth: Truth
    found: dict[str, dict[str, list[Finding]]]  # by key, then by rule


def watch(config: GeneratorConfig) -> Watched:
    """Generate flow logs, roll them up and evaluate the default rules."""
    documents: dict[RollUpKey, dict[str, Any]] = {}

    def roll_up(key: str, body: bytes) -> None:
        parts = PartsOfObject(Origin("bucket", key, key[-20:], "1", "eu-west-1"), (60,))
        for rows in decode(iter([body]), Limits()):
            parts.add(rows)
        for name, part in parts.finish():
            documents[name] = merged(name, documents.get(name), [part]) or documents[name]

    truth = generate(config, roll_up)
    series: dict[str, dict[int, Rolled]] = defaultdict(dict)
    for name, document in documents.items():
        series[name.key][name.start] = document["flowlogs"]["rollup"]
    return Watched(
        truth,
        {
            key: evaluate(DEFAULT_RULES, new, {start: Past.of(rolled) for start, rolled in new.items()})
            for key, new in series.items()
        },
    )


def config(seed: int, records: int, version: int, **more: Any) -> GeneratorConfig:
    return GeneratorConfig(start=START, records=records, seed=seed, names=vpc_format(version), **more)


CASES = [(1, 20_000, 5), (2, 20_000, 5), (3, 200_000, 5), (4, 200_000, 2), (5, 20_000, 2)]


@pytest.mark.parametrize(("seed", "records", "version"), CASES)
def test_every_incident_is_found_in_time_and_nothing_elsewhere(seed: int, records: int, version: int) -> None:
    plain = config(seed, records, version)
    watched = watch(config(seed, records, version, incidents=plain.fitting_incidents()))

    delays: dict[str, float] = {}
    for incident in watched.truth.incidents:
        findings = watched.found[incident["interface"]][RULE_OF[incident["kind"]]]
        ends = [finding.start + 60 for finding in findings if finding.start + 60 > incident["start"]]
        delays[incident["kind"]] = min(ends, default=float("inf")) - incident["start"]
    assert {kind: delay for kind, delay in delays.items() if delay > DELAYS[kind]} == {}
    assert set(delays) == set(RULE_OF)
    struck = {incident["interface"] for incident in watched.truth.incidents}
    assert elsewhere(watched, struck) == []


@pytest.mark.parametrize("seed", [11, 12, 13, 14])
@pytest.mark.parametrize("version", [2, 5])
def test_everyday_traffic_raises_no_alert(seed: int, version: int) -> None:
    assert elsewhere(watch(config(seed, 60_000, version)), set()) == []


def test_a_transit_gateway_shows_what_needs_no_action_field() -> None:
    plain = GeneratorConfig(start=START, records=20_000, names=TRANSIT_GATEWAY_FORMAT, tgw=True)
    watched = watch(GeneratorConfig(**{**vars(plain), "incidents": plain.fitting_incidents()}))

    found = {incident["kind"]: watched.found[incident["interface"]] for incident in watched.truth.incidents}
    assert {kind for kind, rules in found.items() if rules[RULE_OF[kind]]} == set(RULE_OF) - {
        "port-scan",
        "reject-burst",
    }


def elsewhere(watched: Watched, struck: set[str]) -> list[tuple[str, str, str]]:
    """What was found at interfaces that nothing was done to."""
    return [
        (key, rule, finding.message)
        for key, rules in watched.found.items()
        if key not in struck
        for rule, findings in rules.items()
        for finding in findings
    ]
