"""`flowlogs setup`: put the index templates in place."""

from __future__ import annotations

import os

import typer

from beam_flowlogs.cli import options as opt
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.elastic.setup import set_up


def setup(as_json: opt.AsJson = False) -> None:
    """Create or update the index templates in Elasticsearch. Once is enough; again does no harm."""
    with opt.one_line_errors():
        done = set_up(connect(ElasticsearchConfig.from_environment(os.environ)))
        if as_json:
            opt.print_json(done)
        else:
            for name, what in done.items():
                typer.echo(f"{name}: {what}")
