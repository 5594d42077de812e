"""Writes the pages that are made from the code: `make docs`. A test fails when one is stale."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer.main

from beam_flowlogs.cli import app
from beam_flowlogs.fields import DERIVED, FIELDS, Field

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
| 130 | it was interrupted |

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
    return _INTRODUCTION + "".join(_commands(typer.main.get_command(app), "flowlogs"))


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

Text may be plain, gzip (of one or more members) or zstd. Times are seconds or milliseconds. Where a record lacks account, region and
time, the key of its object tells them: plain, hourly and Hive keys below any prefix.

## What is rejected

Each has a reason of its own in the [dead letters](dead-letters.md). What stands before a fault is indexed.

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
    lines = ["\n## Logged fields\n", "| field | version | type | meaning | in the document |", "|---|---|---|---|---|"]
    lines += [_field_row(field) for field in FIELDS]
    lines += ["\n## Computed fields\n", "| document field | type | rule |", "|---|---|---|"]
    lines += [f"| `{field.path}` | {field.es_type} | {field.rule} |" for field in DERIVED]
    return _RECORDS_INTRODUCTION + "\n".join(lines) + "\n"


def _field_row(field: Field) -> str:
    paths = ", ".join(f"`{path}`" for path in (field.path, *field.copies))
    return f"| `{field.name}` | {field.version} | {field.kind.es_type} | {field.meaning} | {paths} |"


PAGES = {"commands.md": commands_page, "records.md": records_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page())
