"""What each rule finds, what it leaves alone, and which files are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.alert_past import Past
from beam_flowlogs.alert_rules import DEFAULT_RULES, KINDS, Finding, Rule, evaluate, read_rules
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig

START = 1_764_000_000


def rolled(**told: Any) -> dict[str, Any]:
    """A roll-up of ordinary traffic, but for what is told."""
    usual = {"flows": 100, "bytes": 5_000_000, "rejected": {"flows": 3}, "nodata": 0, "skipdata": 0}
    return usual | told


def found_by(kind: str, *windows: dict[str, Any], **thresholds: float) -> list[int]:
    """The places of the windows in which a rule of this kind holds."""
    rule = Rule("rule", kind, "low", {**KINDS[kind].defaults, **thresholds})
    return [(finding.start - START) // 60 for finding in found_in((rule,), windows)["rule"]]


def found_in(rules: Sequence[Rule], windows: Sequence[dict[str, Any]]) -> dict[str, list[Finding]]:
    new = {START + 60 * place: window for place, window in enumerate(windows)}
    return evaluate(rules, new, {start: Past.of(window) for start, window in new.items()})


USUAL = [rolled()] * 6
SILENT = rolled(flows=0, bytes=0, rejected={"flows": 0}, nodata=1)
SCAN = {"rejected_sources": [{"address": "192.0.2.1", "flows": 40, "ports": 40}]}
UNANSWERED = {"unanswered": [{"address": "10.0.0.9", "port": 5432, "missing": 9, "begun": 10}]}
REJECTED = {
    "rejected_ports": [{"port": 5432, "flows": 80}],
    "rejected_sources": [{"address": "10.0.0.9", "flows": 80, "ports": 1}],
}


@pytest.mark.parametrize(
    ("kind", "window"),
    [
        ("reject-share", rolled(rejected={"flows": 50})),
        ("rejected-port", rolled(top=REJECTED)),
        ("rejected-source", rolled(top=REJECTED)),
        ("port-scan", rolled(top=SCAN)),
        ("unanswered", rolled(top=UNANSWERED)),
        ("many-peers", rolled(distinct={"addresses": 1000})),
        ("bytes-above", rolled(bytes=10**12)),
        ("bytes-spike", rolled(bytes=200_000_000)),
        ("skipdata", rolled(skipdata=1)),
    ],
)
def test_a_rule_holds_in_the_window_of_its_incident_and_in_no_other(kind: str, window: dict[str, Any]) -> None:
    assert found_by(kind, *USUAL, window, rolled()) == [6]


def test_an_interface_is_silent_after_three_windows_without_flows() -> None:
    assert found_by("silent", *USUAL, SILENT, SILENT, SILENT, SILENT, rolled()) == [8, 9]


def test_an_interface_that_never_had_traffic_is_not_silent() -> None:
    assert found_by("silent", *[SILENT] * 20) == []


def test_usual_traffic_and_few_rejects_break_no_default_rule() -> None:
    quiet = rolled(flows=4, rejected={"flows": 4})

    assert not any(found_in(DEFAULT_RULES, [*USUAL, quiet, *USUAL]).values())


def test_a_spike_is_measured_against_the_interfaces_own_past_and_not_without_one() -> None:
    busy = rolled(bytes=150_000_000)

    assert found_by("bytes-spike", *[busy] * 6, rolled(bytes=300_000_000)) == []
    assert found_by("bytes-spike", rolled(), rolled(bytes=10**12)) == []


@pytest.mark.parametrize("kind", ["rejected-port", "rejected-source"])
def test_what_was_rejected_before_is_not_new(kind: str) -> None:
    assert found_by(kind, *[rolled(top=REJECTED)] * 6) == []


@pytest.mark.parametrize("kind", ["rejected-port", "rejected-source"])
@pytest.mark.parametrize(("flows", "places"), [(2_000, []), (1_000, [6])])
def test_what_is_rejected_is_measured_against_the_traffic_of_a_busy_interface(
    kind: str, flows: int, places: list[int]
) -> None:
    assert found_by(kind, *USUAL, rolled(flows=flows, top=REJECTED)) == places


def test_a_share_of_rejects_that_is_usual_is_no_news() -> None:
    assert found_by("reject-share", *[rolled(rejected={"flows": 60})] * 6, rolled(rejected={"flows": 90})) == []


def test_a_share_of_rejects_may_be_judged_without_a_past() -> None:
    assert found_by("reject-share", rolled(rejected={"flows": 60}), history=0) == [0]


def test_an_interface_that_logs_every_ten_minutes_is_silent_after_three_of_them() -> None:
    apart = {START + 600 * place: window for place, window in enumerate([*USUAL, SILENT, SILENT, SILENT])}
    rule = Rule("rule", "silent", "low", KINDS["silent"].defaults)

    found = evaluate((rule,), apart, {start: Past.of(window) for start, window in apart.items()})

    assert [(finding.start - START) // 600 for finding in found["rule"]] == [8]


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text)
    return path


def test_a_file_of_rules_is_read_with_defaults_filled_in(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [[rule]]
        name = "flood"
        kind = "bytes-spike"
        severity = "high"
        bytes = "1.5 GB"
        """,
    )

    (rule,) = read_rules(path)

    assert (rule.name, rule.kind, rule.severity) == ("flood", "bytes-spike", "high")
    assert rule.thresholds == {"bytes": 1.5e9, "factor": 10, "history": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]]\nname = 'a'\nkind = 'ddos'", "kind 'ddos' is unknown; kinds are reject-share"),
        (
            "[[rule]]\nname = 'a'\nkind = 'silent'\nminutes = 3",
            "'minutes' is no threshold of silent; thresholds",
        ),
        ("[[rule]]\nname = 'a'\nkind = 'bytes-above'\nbytes = '1 GiB'", "kB, MB, GB or TB"),
        ("[[rule]]\nname = 'a'\nkind = 'reject-share'\nshare = 50", "fraction up to 1"),
        ("[[rule]]\nname = 'a'\nkind = 'skipdata'\nrecords = 0", "a number above 0"),
        ("[[rule]]\nname = 'a'\nkind = 'skipdata'\nseverity = 'huge'", "severities are low, medium, high"),
        ("[[rule]]\nkind = 'skipdata'", "its name is None"),
        ("[[rule]]\nname = 'a'\nkind = 'skipdata'\n" * 2, "two rules are called 'a'"),
        ("[rule]\nname = 'a'", r"write \[\[rule\]\] tables"),
        ("rule = ", "are no TOML"),
        ("rule = [1]", r"write \[\[rule\]\] tables"),
        ("[[rule]]\nname = 'a'\nkind = 'bytes-above'\nbytes = '0 GB'", "a number above 0"),
        ("[[rule]]\nname = 'a'\nkind = 'bytes-spike'\nhistory = 61", "60 windows are looked back at"),
    ],
)
def test_a_rule_that_is_not_understood_is_refused_with_the_cure(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rules(write(tmp_path, text))


def test_a_rule_on_details_is_refused_where_there_are_none() -> None:
    rules = (Rule("fan-out", "many-peers", "low", KINDS["many-peers"].defaults),)
    told: dict[str, Any] = {"elasticsearch": ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead_letters": "d"}

    with pytest.raises(ValueError, match="fan-out looks at what only --rollup-details counts"):
        JobConfig(**told, buckets=("b",), alerts=AlertConfig(rules=rules))

    JobConfig(**told, buckets=("b",), alerts=AlertConfig(rules=rules), rollup_details=True)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.toml cannot be read"):
        read_rules(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_the_docs_tell_of_each_rule_with_its_thresholds(kind: str) -> None:
    page = (Path(__file__).parent.parent / "docs/alerts.md").read_text()

    section = page.split(f"### {kind}\n")[1].split("\n#")[0]

    assert {name for name, value in KINDS[kind].defaults.items() if f"`{name} = {value}`" not in section} == set()
