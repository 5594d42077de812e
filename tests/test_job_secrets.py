"""No job of ours carries a secret to its runner: the graphs of all of them are opened and searched."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest

from beam_flowlogs import run
from beam_flowlogs.alert_notice import AlertConfig
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import Selection
from beam_flowlogs.run import backfill, drain, replay, stream
from beam_flowlogs.sqs_queue import QueueConfig
from tests.graph_text import graph_text

VALUE = "hunter2-very-secret"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/flow-logs"
JOBS: dict[str, Callable[[JobConfig], Any]] = {
    "drain": lambda config: drain(config, QUEUE, []),
    "backfill": lambda config: backfill(config, ["s3://flow-logs/"], ["--runner=PortableRunner"]),
    "replay": lambda config: replay(config, Selection(), []),
    "stream": lambda config: stream(config, QueueConfig((QUEUE,)), []),
}
CREDENTIALS = {
    "key": {"ELASTICSEARCH_API_KEY": VALUE},
    "password": {"ELASTICSEARCH_USERNAME": "elastic", "ELASTICSEARCH_PASSWORD": VALUE},
    "bearer": {"ELASTICSEARCH_BEARER": VALUE},
}


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[beam.Pipeline]:
    """What the jobs would have run."""
    found: list[beam.Pipeline] = []

    def keep(pipeline: beam.Pipeline) -> Outcome:
        found.append(pipeline)
        return Outcome()

    monkeypatch.setattr(run, "_run", keep)
    monkeypatch.setattr(beam.Pipeline, "run", keep)
    return found


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("kind", CREDENTIALS)
def test_no_secret_is_in_the_graph_or_the_options_of_a_job(
    job: str, kind: str, pipelines: list[beam.Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"ELASTICSEARCH_URL": "https://search.example:9200", **CREDENTIALS[kind]}
    for name, value in (*environment.items(), ("ALERT_WEBHOOK", f"https://hooks.example/{VALUE}")):
        monkeypatch.setenv(name, value)
    elasticsearch = ElasticsearchConfig.from_environment(environment)
    config = JobConfig(elasticsearch, "s3://letters/", ("b",), alerts=AlertConfig(webhook="env:ALERT_WEBHOOK"))
    JOBS[job](config)
    (pipeline,) = pipelines
    everything = graph_text(pipeline) + str(pipeline.options.get_all_options()) + str(pipeline.options.display_data())
    forms = [VALUE, base64.b64encode(VALUE.encode()).decode(), base64.b64encode(f"elastic:{VALUE}".encode()).decode()]
    assert [form for form in forms if form in everything] == []
    assert "search.example" in everything  # the steps were really opened


def test_a_secret_in_a_step_would_be_seen() -> None:
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([1]) | beam.Map(_with, VALUE)
    assert VALUE in graph_text(pipeline)
    assert VALUE not in str(pipeline.to_runner_api())


def _with(element: int, secret: str) -> str:
    return f"{element}{secret}"
