"""Writes the pages that are made from the code: `make docs`. A test fails when one is stale."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import typer.main

from beam_flowlogs.cli import app
from beam_flowlogs.document import Origin, bulk_items
from beam_flowlogs.fields import DERIVED, FIELDS, Field, Kind, vpc_format
from beam_flowlogs.inflate import Limits
from beam_flowlogs.record_batch import decode

_INTRODUCTION = """\
# Commands

Every command explains itself with `--help`. This page is made from the same text by `make docs`.

| exit code | means |
|---|---|
| 0 | all went well |
| 1 | it failed, or `verify` found a difference |
| 2 | wrong arguments |
| 3 | the local stack is not up |
| 4 | a job has finished, and some of what it read is in the dead letters, named on standard error |
| 5 | `verify` found nothing to verify |
| 130 | it was interrupted, by a Ctrl-C, a SIGTERM or a closed terminal |

Errors are one line on standard error that says what to do. Where output is data, `--json` prints it for programs.

| variable | for |
|---|---|
| `ELASTICSEARCH_URL` (several with commas) or `ELASTICSEARCH_CLOUD_ID` | where documents go |
| `ELASTICSEARCH_API_KEY`, or `ELASTICSEARCH_USERNAME` and `ELASTICSEARCH_PASSWORD`, or `ELASTICSEARCH_BEARER` | credentials, read by the workers from their own environment |
| `ELASTICSEARCH_CA_CERTS` | a CA file of your own; certificates are always verified |
| `AWS_REGION`, `AWS_PROFILE`, `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and the rest of boto3's chain | S3 and SQS |
| `FLOWLOGS_HOME` | where the local stack keeps its data |
"""


def commands_page() -> str:
    """Return the text of docs/commands.md."""
    sections = _commands(typer.main.get_command(app), "flowlogs")
    return _INTRODUCTION + _overview(sections) + "".join(sections)


def _overview(sections: list[str]) -> str:
    """Return a table of the commands: the title and the first line of each section."""
    rows = ["", "| command | |", "|---|---|"]
    for section in sections:
        title, _, text = section.lstrip("\n# ").partition("\n")
        first = " ".join(text.lstrip().partition("\n\n")[0].split())
        rows.append(f"| [`{title}`](#{title.replace(' ', '-')}) | {first} |")
    return "\n".join(rows) + "\n"


def _commands(group: Any, prefix: str) -> list[str]:
    sections: list[str] = []
    for name, command in group.commands.items():
        title = f"{prefix} {name}"
        if hasattr(command, "commands"):
            sections += _commands(command, title)
        else:
            sections.append(_section(title, command))
    return sections


def _section(title: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([title, *(p.metavar or p.name.upper() for p in arguments if p.name)])
    lines = [f"\n## {title}\n", inspect.cleandoc(command.help or ""), f"\n```\n{usage} [OPTIONS]\n```\n"]
    rows = [row for p in command.params if (row := _row(p))]
    if rows:
        lines += ["| option | default | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    if parameter.param_type_name == "argument":
        return f"| `{parameter.metavar or (parameter.name or '').upper()}` | | {text} |"
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    default = parameter.default
    shown = "required" if parameter.required else ""
    if default not in (None, False, "", ()) and not callable(default):
        shown = f"`{getattr(default, 'value', default)}`"
    return f"| {names} | {shown} | {text} |"


_RECORDS_INTRODUCTION = """\
# Records: what is logged, and what it becomes

Made by `make docs` from `beam_flowlogs/fields.py`, where every field is written down once.

Every logged field stands in the document under `aws.vpcflow.` and its own name with `_`; some are copied to fields of the
[Elastic Common Schema](https://www.elastic.co/guide/en/ecs/current/index.html) besides. A `-` is absent from the document. A field
that AWS adds later is kept as a keyword. Tags stay percent-encoded, as logged. A value that does not fit its type makes the row a
reject: it is neither indexed nor counted.

## Files

What a file is, is told by its content and not by its name; files of any kind may lie side by side.

| kind | read as |
|---|---|
| text with a header line | the columns that the header names, in any order and number |
| text without one | the columns of `--format 'version account-id ...'`; a time of export before every line (CloudWatch Logs) is passed over |
| Parquet | its columns by name (`_` for `-`), 32 or 64 bits wide or text; null, `-` and empty are absent |

Text may be plain, gzip (of one or more members) or zstd. Times are seconds or milliseconds.

## Keys

Below any prefix, these keys (and those of Parquet, which end in `.log.parquet`) tell account, region, flow log and delivery slot:

```
AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/01/31/NAME
AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/01/31/23/NAME
AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026/month=01/day=31/NAME
AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026/month=01/day=31/hour=23/NAME

NAME: 123456789012_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20260131T2355Z_1a2b3c4d.log.gz
```

The name alone is enough. Of a renamed file, the folders tell account, region, and its day or hour. Any other key is read too; it tells
nothing. What a key tells is used

- for `cloud.account.id`, `cloud.region` and `@timestamp` of records that log none of these,
- for `--max-days`: a record of another time than its slot is set aside,
- for `flowlogs backfill --since --until`. A slot is five minutes long, and the records in it *ended* in them. So a range brings what has
  its `@timestamp` in it, rounded to slots. AWS delivers a slot's files within 10 minutes or so, sometimes later.

## What is rejected

Each has a reason of its own in the [dead letters](dead-letters.md), where the limits and the other reasons stand too. What stands before a
fault is indexed.

| the object, or the rest of it | because |
|---|---|
| `not-a-flow-log` | it is neither text nor Parquet, or its columns are not those of a flow log |
| `header-missing` | its first line names no fields, and no `--format` does |
| `header-broken` | the header names a field twice, or something that can be no field; a Parquet column is neither number nor text |
| `header-changed` | a different header follows further down |
| `gzip-corrupt` `gzip-truncated` `zstd-corrupt` `parquet-broken` | it is damaged, or ends early |
| `parquet-unsupported` | a column is encoded as DELTA_BYTE_ARRAY |
| `too-large` | it unpacks to more than `--max-plain-bytes` (8 GiB), or its Parquet footer is larger than 2 MiB |
| `ratio-too-high` | it unpacks to more than `--max-ratio` (250) times its size, and to more than 64 MiB |
| `page-too-large` | a page of Parquet unpacks to more than 64 MiB |
| `line-too-long` | a line, or a row of Parquet, is longer than 64 KiB |
| `too-many-columns` | it has more than 256 columns |
| `too-many-roll-ups` | it has records of more interfaces and windows than `--max-rollups` (100,000) |
| `object-changed` | it was overwritten while it was read |
| `unexpected-error` | a mistake of this program: please report it |

| a row | because |
|---|---|
| `wrong-number-of-values` | it has more or fewer values than the header has names |
| `empty-value` | two spaces follow each other: an absent value is written `-` |
| `not-a-number` `out-of-range` | a number is none, is negative, or is more than its field can hold (ports 65,535, protocol 255, counts 2^48) |
| `not-an-address` | an address is none |
| `not-utf-8` `stray-carriage-return` | its bytes are no line of text |
| `export-time-missing` | the first line begins with a time of export, and it does not |
| `time-missing` | neither `end` nor `start` is logged, and the key names no delivery slot |
| `time-out-of-range` | its time lies before 2015 or after 2099 |
| `value-too-long` | a text is longer than 8,191 bytes, which Elasticsearch could not search for |
| `time-implausible` | its time lies more than `--max-days` (30) from the delivery slot, or from the object's first record |
"""


def records_page() -> str:
    """Return the text of docs/records.md."""
    lines = ["\n## Logged fields\n", _FIELDS_INTRODUCTION]
    lines += ["| field | version | logged as | meaning | in the document, with its type |", "|---|---|---|---|---|"]
    lines += [_field_row(field) for field in FIELDS]
    lines += ["\n## Computed fields\n", "| document field | type | rule |", "|---|---|---|"]
    lines += [f"| `{field.path}` | {field.es_type} | {field.rule} |" for field in DERIVED]
    return _RECORDS_INTRODUCTION + "\n".join(lines) + "\n" + _example()


def _example() -> str:
    """Return a record and the document that the code makes of it."""
    header = " ".join(vpc_format(2)) + " tcp-flags flow-direction"
    line = "5 123456789012 eni-0a1 10.0.1.5 203.0.113.9 49152 443 6 10 5263 1764000000 1764000059 ACCEPT OK 19 egress"
    (rows,) = decode(iter([f"{header}\n{line}\n".encode()]), Limits())
    key = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2025/11/24/NAME"
    (item,) = bulk_items(rows, Origin("my-flow-logs", key, "A" * 16, "123456789012", "eu-west-1")).to_pylist()
    action, document = map(json.loads, item.splitlines())
    index = action["create"]["_index"]
    members = _two_levels(document).items()
    shown = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in members)
    return (
        f"\n## An example\n\n```\n{header}\n{line}\n```\n\n"
        f"becomes, in `{index}`, the index of its day,\n\n```json\n{{\n{shown}\n}}\n```\n"
    )


def _two_levels(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with its members sorted, and those of ``aws``, which are many, each by its own path."""
    own = {f"aws.{name}": value for name, value in document.pop("aws").items()}
    return dict(sorted((document | own).items()))


_FIELDS_INTRODUCTION = """\
The version is the first to have the field; a record's own `version` is the highest among its fields. Those of version 6 are
of transit gateway flow logs, which have many of the others besides. No number is negative.
"""
_LOGGED_AS = {
    Kind.KEYWORD: "text",
    Kind.ADDRESS: "address",
    Kind.INT32: "integer, 32 bits",
    Kind.INT64: "integer, 64 bits",
}


def _field_row(field: Field) -> str:
    kind = _LOGGED_AS[field.kind] + (f", at most {field.maximum:,}" if field.maximum else "")
    types = {field.path: field.kind.es_type, **field.copies}
    paths = ", ".join(f"`{path}` {es_type}" for path, es_type in types.items())
    return f"| `{field.name}` | {field.version} | {kind} | {field.meaning} | {paths} |"


PAGES = {"commands.md": commands_page, "records.md": records_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page())
