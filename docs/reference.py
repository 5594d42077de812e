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

A text object is read by its header line, a Parquet one by its column names (`_` for `-`); order and number do not matter. Every
logged field stands in the document under `aws.vpcflow.` and its own name with `_`; the column "also as" names the fields of the
[Elastic Common Schema](https://www.elastic.co/guide/en/ecs/current/index.html) that it is copied to. A `-` is absent from the
document. A field that AWS adds later is kept as a keyword. Tags stay percent-encoded, as logged.
A value that does not fit its type makes the row a reject: it is neither indexed nor counted.
"""


def records_page() -> str:
    """Return the text of docs/records.md."""
    lines = ["\n## Logged fields\n", "| field | version | type | meaning | also as |", "|---|---|---|---|---|"]
    lines += [_field_row(field) for field in FIELDS]
    lines += ["\n## Computed fields\n", "| document field | type | rule |", "|---|---|---|"]
    lines += [f"| `{field.path}` | {field.es_type} | {field.rule} |" for field in DERIVED]
    return _RECORDS_INTRODUCTION + "\n".join(lines) + "\n"


def _field_row(field: Field) -> str:
    copies = ", ".join(f"`{path}`" for path in field.copies)
    return f"| `{field.name}` | {field.version} | {field.kind.es_type} | {field.meaning} | {copies} |"


PAGES = {"commands.md": commands_page, "records.md": records_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page())
