"""Alert rules: a TOML file in, checked rules out; and what they find in the roll-ups of one interface.

A rule looks at the windows of one key in the order of time. It is a pure function of the roll-ups, so that the same
roll-ups give the same findings, whenever and however often it is asked.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from beam_flowlogs.alert_past import Before, Past, Rolled, top_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

HELD = 60
"""Roll-ups before one that tell what is usual."""


class Finding(NamedTuple):
    """A window (its start in Unix seconds) in which a rule holds: how much, of what threshold, and in words."""

    start: int
    value: float
    threshold: float
    message: str


@dataclass(frozen=True)
class Rule:
    """One rule: what it looks for (``kind``, see KINDS), and its thresholds by name."""

    name: str
    kind: str
    severity: str
    thresholds: Mapping[str, float]


_Held = tuple[float, float, str]


class Kind(NamedTuple):
    """What a kind of rule looks for, its thresholds with their defaults, and the check of one window.

    The check takes the roll-up, up to HELD of those before it (the last one last) and the thresholds. It returns how
    much it found, of what threshold, and in words.
    """

    meaning: str
    defaults: Mapping[str, float]
    check: Callable[[Rolled, Sequence[Past], Mapping[str, float]], _Held | None]


def _reject_share(rolled: Rolled, before: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    flows, rejected = rolled["flows"], rolled["rejected"]["flows"]
    if flows < limit["flows"] or rejected < limit["share"] * flows or len(before) < limit["history"]:
        return None
    # An interface that faces the internet may refuse most of what knocks, every minute of the day.
    usual = median([past.rejected / past.flows for past in before if past.flows] or [0])
    share = rejected / flows
    if share < limit["factor"] * usual:
        return None
    message = f"{rejected:,} of {flows:,} flows were rejected ({share:.0%}, where {usual:.0%} is usual)"
    return share, max(limit["share"], limit["factor"] * usual), message + _busiest(rolled)


def _busiest(rolled: Rolled) -> str:
    sources, ports = top_of(rolled, "rejected_sources"), top_of(rolled, "rejected_ports")
    if not sources or not ports:
        return ""
    return f", most often from {sources[0]['address']}, most often to port {ports[0]['port']}"


def _rejected_port(rolled: Rolled, before: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    return _new_reject(rolled, before, limit, "rejected_ports", "port", "to port")


def _rejected_source(rolled: Rolled, before: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    return _new_reject(rolled, before, limit, "rejected_sources", "address", "from")


def _new_reject(
    rolled: Rolled,
    before: Sequence[Past],
    limit: Mapping[str, float],
    top: str,
    label: str,
    words: str,
) -> _Held | None:
    if len(before) < limit["history"]:
        return None
    least = max(limit["flows"], limit["share"] * rolled["flows"])
    many = [entry for entry in top_of(rolled, top) if entry["flows"] >= least]
    known = {name for past in before for name in getattr(past, top)} if many else ()
    for entry in many:
        if entry[label] not in known:
            message = f"{entry['flows']:,} flows {words} {entry[label]} were rejected, and it was not rejected before"
            return entry["flows"], least, message
    return None


def _port_scan(rolled: Rolled, _: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    found = max(top_of(rolled, "rejected_sources"), key=lambda entry: entry["ports"], default=None)
    if found is None or found["ports"] < limit["ports"]:
        return None
    return found["ports"], limit["ports"], f"{found['address']} was rejected at {found['ports']:,} ports"


def _many_peers(rolled: Rolled, _: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    addresses = rolled.get("distinct", {}).get("addresses", 0)
    if addresses < limit["addresses"]:
        return None
    return addresses, limit["addresses"], f"it talked with about {addresses:,} addresses, or was talked to by them"


def _unanswered(rolled: Rolled, _: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    for entry in top_of(rolled, "unanswered"):
        if entry["missing"] >= max(limit["connections"], limit["share"] * entry["begun"]):
            message = (
                f"{entry['missing']:,} of {entry['begun']:,} connections to {entry['address']} port {entry['port']} "
                "were begun and not answered: to the caller they time out"
            )
            return entry["missing"], limit["connections"], message
    return None


def _bytes_above(rolled: Rolled, _: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    volume = rolled["bytes"]
    return (volume, limit["bytes"], f"{volume:,} bytes in one window") if volume >= limit["bytes"] else None


def _bytes_spike(rolled: Rolled, before: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    volume = rolled["bytes"]
    if volume < limit["bytes"] or len(before) < limit["history"]:
        return None
    usual = median([past.bytes for past in before])  # which a spike of some windows does not lift
    if volume < limit["factor"] * usual:
        return None
    message = f"{volume:,} bytes, where {usual:,.0f} are usual (median of the {len(before)} windows before)"
    return volume, limit["factor"] * usual, message


def _silent(rolled: Rolled, before: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    if rolled["flows"] or not rolled["nodata"]:
        return None
    quiet = int(limit["windows"])
    at = max(0, len(before) - quiet + 1)
    earlier, now = before[:at], before[at:]
    if len(now) < quiet - 1 or any(past.flows for past in now):
        return None
    if sum(past.flows > 0 for past in earlier) < limit["history"]:
        return None
    return quiet, quiet, f"no traffic in {quiet} windows (AWS logs NODATA), after some before"


def _skipdata(rolled: Rolled, _: Sequence[Past], limit: Mapping[str, float]) -> _Held | None:
    skipped = rolled["skipdata"]
    if skipped < limit["records"]:
        return None
    return skipped, limit["records"], f"AWS skipped data ({skipped} SKIPDATA): sums are a lower bound"


KINDS: Mapping[str, Kind] = {
    "reject-share": Kind(
        "at least `share` of at least `flows` flows were rejected, and `factor` times the share that is usual there, "
        "of which `history` windows tell",
        {"share": 0.5, "flows": 50, "factor": 2, "history": 3}, _reject_share,
    ),
    "rejected-port": Kind(
        "`flows`, and `share` of all, rejected to a destination port that was not among the most rejected of the "
        "windows before, of which there are `history`",
        {"flows": 50, "share": 0.05, "history": 3}, _rejected_port,
    ),
    "rejected-source": Kind(
        "`flows`, and `share` of all, rejected from an address that was not among the most rejected of the windows "
        "before, of which there are `history`",
        {"flows": 50, "share": 0.05, "history": 3}, _rejected_source,
    ),
    "port-scan": Kind("one source was rejected at `ports` different ports", {"ports": 25}, _port_scan),
    "many-peers": Kind(
        "at least `addresses` different addresses on either side of its flows, estimated",
        {"addresses": 1000}, _many_peers,
    ),
    "unanswered": Kind(
        "`connections` to one service, and `share` of those begun, were accepted and not answered",
        {"connections": 5, "share": 0.8}, _unanswered,
    ),
    "bytes-above": Kind("at least `bytes` in one window", {"bytes": 10**12}, _bytes_above),
    "bytes-spike": Kind(
        "at least `bytes`, and `factor` times the median of the windows before, of which there are `history`",
        {"bytes": 10**8, "factor": 10, "history": 5}, _bytes_spike,
    ),
    "silent": Kind(
        "NODATA and no flow in `windows` windows on end, after traffic in `history` of those before",
        {"windows": 3, "history": 3}, _silent,
    ),
    "skipdata": Kind("AWS says `records` times that it lost data", {"records": 1}, _skipdata),
}  # fmt: skip
"""Every kind of rule."""

OF_DETAILS = frozenset({"many-peers"})
"""Kinds that look at what a roll-up has only where its details are asked for."""

SEVERITIES = ("low", "medium", "high")

DEFAULT_RULES: tuple[Rule, ...] = tuple(
    Rule(kind, kind, severity, KINDS[kind].defaults)
    for kind, severity in (
        ("reject-share", "medium"), ("rejected-port", "low"), ("rejected-source", "low"), ("port-scan", "high"),
        ("unanswered", "high"), ("bytes-spike", "medium"), ("silent", "medium"), ("skipdata", "low"),
    )
)  # fmt: skip
"""The rules of a job that is given no file."""


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a TOML file: ``[[rule]]`` tables with name, kind, severity and the kind's thresholds.

    Raises ValueError that names the rule, what is wrong with it and what there is to choose from.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"alert rules {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"alert rules {path} are no TOML: {error}") from error
    tables = content.get("rule")
    if set(content) != {"rule"} or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"alert rules {path}: write [[rule]] tables and nothing else")
    rules = tuple(_rule(table, f"alert rules {path}, rule {number}") for number, table in enumerate(tables, 1))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"alert rules {path}: two rules are called {name!r}; an alert is known by its rule's name")
    return rules


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    name, kind, severity = table.get("name"), table.get("kind"), table.get("severity", "medium")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"{where}: its name is {name!r}; use lower-case letters, digits, - and _")
    where = f"{where} ({name})"
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where}: kind {kind!r} is unknown; kinds are {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"{where}: severity {severity!r} is unknown; severities are {', '.join(SEVERITIES)}")
    defaults = KINDS[kind].defaults
    given = {key: value for key, value in table.items() if key not in ("name", "kind", "severity")}
    for key in given:
        if key not in defaults:
            raise ValueError(f"{where}: {key!r} is no threshold of {kind}; thresholds are {', '.join(defaults)}")
    return Rule(name, kind, severity, {**defaults, **{key: _number(key, value, where) for key, value in given.items()}})


def _number(key: str, value: Any, where: str) -> float:
    if key == "bytes" and isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", value)
        if not match or match[2] not in _UNITS:
            raise ValueError(f'{where}: bytes is {value!r}; write a number with kB, MB, GB or TB, such as "10 GB"')
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or (not value and key != "history"):
        raise ValueError(f"{where}: {key} is {value!r}; give a number above 0")
    if key == "history" and value > HELD:
        raise ValueError(f"{where}: history is {value}; {HELD} windows are looked back at, so give at most that")
    if key == "share" and value > 1:
        raise ValueError(f"{where}: share is {value}; give a fraction up to 1, such as 0.5")
    return value


def evaluate(rules: Sequence[Rule], new: Mapping[int, Rolled], past: Mapping[int, Past]) -> dict[str, list[Finding]]:
    """Return by each rule's name the windows of one key in which it holds, in order.

    Looked at are the ``new`` roll-ups, by window start; ``past`` is what is known of the key's windows, those included.
    """
    starts = sorted(past)
    found: dict[str, list[Finding]] = {rule.name: [] for rule in rules}
    for start in sorted(new):
        at = bisect_left(starts, start)
        before = Before(past, starts, max(0, at - HELD), at)
        for rule in rules:
            held = KINDS[rule.kind].check(new[start], before, rule.thresholds)
            if held:
                found[rule.name].append(Finding(start, *held))
    return found
