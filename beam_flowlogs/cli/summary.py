"""`flowlogs summary`: what is in Elasticsearch now, and the queries to go on with."""

from __future__ import annotations

import os

from rich import box
from rich.markup import escape
from rich.table import Table

from beam_flowlogs.cli import options as opt
from beam_flowlogs.cli.errors import one_line_errors, wrong_arguments
from beam_flowlogs.cli.report import print_json, wide_console
from beam_flowlogs.cli.wording import command, count_of, size_of
from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.summary import Summary, summarize
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX


def summary(as_json: opt.AsJson = False) -> None:
    """Show what is in Elasticsearch now: counts, top interfaces, rejected traffic, a roll-up beside its raw sum."""
    with wrong_arguments():
        config = ElasticsearchConfig.from_environment(os.environ)
    with one_line_errors():
        found = summarize(connect(config))
    if as_json:
        print_json(as_data(found))
    else:
        show(found, curl(config))


def as_data(found: Summary) -> dict[str, object]:
    """Return a summary as plain data, for JSON."""
    return found._asdict() | {
        "interfaces": [interface._asdict() for interface in found.interfaces],
        "rejected": [rejected._asdict() for rejected in found.rejected],
        "comparison": found.comparison._asdict() if found.comparison else None,
    }


def curl(config: ElasticsearchConfig) -> tuple[str, str]:
    """Return how a shell asks this Elasticsearch: the command with its options, and the address.

    Secrets are named by the variables that hold them, and stay in the environment.
    """
    words = ["curl"]
    if config.api_key:
        words.append('-H "Authorization: ApiKey $ELASTICSEARCH_API_KEY"')
    if config.username:
        words.append('-u "$ELASTICSEARCH_USERNAME:$ELASTICSEARCH_PASSWORD"')
    if config.bearer:
        words.append('-H "Authorization: Bearer $ELASTICSEARCH_BEARER"')
    if config.ca_certs:
        words.append('--cacert "$ELASTICSEARCH_CA_CERTS"')
    return " ".join(words), config.urls[0].rstrip("/") if config.urls else "https://YOUR-DEPLOYMENT"


def show(found: Summary, asking: tuple[str, str]) -> None:
    """Print a summary for a person, with queries by what ``curl`` returns."""
    console = wide_console()
    if not found.documents:
        console.print("No flow logs are indexed yet: run `flowlogs drain` or `flowlogs backfill`.", soft_wrap=True)
        return
    console.print(
        f"{count_of(found.documents, 'raw document')} and {count_of(found.rollups, 'roll-up')}, from {found.first} to "
        f"{found.last}, of {count_of(found.accounts, 'account')} in {count_of(found.regions, 'region')}",
        soft_wrap=True,
    )
    console.print(_counts("Log status", found.by_status), _counts("Action", found.by_action), sep="   ", soft_wrap=True)
    console.print()
    console.print(_interfaces(found))
    if found.rejected:
        console.print(_rejected(found))
    if found.comparison:
        console.print(_comparison(found))
    console.print("[bold]To go on[/]")
    for what, query in _queries(found, *asking):
        console.print(f"  {what}\n    [cyan]{escape(query)}[/]", soft_wrap=True)


def _counts(title: str, counts: dict[str, int]) -> str:
    return f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _table(title: str, *columns: tuple[str, bool]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    return table


def _interfaces(found: Summary) -> Table:
    table = _table(
        "Top interfaces by bytes",
        ("interface", False), ("account", False), ("region", False),
        ("flows", True), ("bytes", True), ("rejected", True),
    )  # fmt: skip
    for interface in found.interfaces:
        table.add_row(
            interface.key,
            interface.account,
            interface.region,
            f"{interface.flows:,}",
            size_of(interface.bytes),
            f"{interface.rejected:,}",
        )
    return table


def _rejected(found: Summary) -> Table:
    table = _table(
        "Rejected traffic by destination port",
        ("port", True), ("flows", True), ("sources", True), ("busiest source", False),
    )  # fmt: skip
    for rejected in found.rejected:
        table.add_row(str(rejected.port), f"{rejected.flows:,}", f"{rejected.sources:,}", rejected.busiest_source)
    return table


def _comparison(found: Summary) -> Table:
    assert found.comparison is not None
    comparison = found.comparison
    table = _table(
        f"The busiest roll-up: {comparison.key}, {comparison.window}",
        ("", False), ("rolled up", True), ("sum of its raw documents", True), ("", False),
    )  # fmt: skip
    for name, rolled_up in comparison.rolled_up.items():
        recounted = comparison.recounted[name]
        table.add_row(name, f"{rolled_up:,}", f"{recounted:,}", "equal" if rolled_up == recounted else "DIFFERENT")
    return table


def _queries(found: Summary, ask: str, url: str) -> list[tuple[str, str]]:
    queries = [
        ("what was refused", f"{ask} '{url}/{RAW_INDEX_PREFIX}*/_search?q=event.action:REJECT&pretty'"),
        (
            "roll-ups with rejects",
            f"{ask} '{url}/{ROLLUP_INDEX_PREFIX}*/_search?q=flowlogs.rollup.rejected.flows:%3E0&pretty'",
        ),
    ]
    if found.interfaces:
        key = found.interfaces[0].key
        queries.append(
            ("one interface", f"{ask} '{url}/{RAW_INDEX_PREFIX}*/_search?q=aws.vpcflow.interface_id:{key}&pretty'")
        )
    return [*queries, ("proof that every roll-up is right", command("verify"))]
