"""A backfill in this process runs in rounds, so that a month of objects takes no more memory than a day of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pytest

from beam_flowlogs import run
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.s3_object import ObjectRef
from tests.graph_text import graph_text

CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "dead-letters", ("logs",))


def refs(*sizes: int) -> list[ObjectRef]:
    return [ObjectRef("logs", f"object-{number}.gz", size=size) for number, size in enumerate(sizes)]


def test_a_round_is_bounded_in_objects_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_ROUND_OBJECTS", 3)
    monkeypatch.setattr(run, "_ROUND_BYTES", 100)

    found = list(run.rounds(refs(1, 1, 1, 1, 60, 60, 500, -1, 1)))

    assert [[ref.size for ref in some] for some in found] == [[1, 1, 1], [1, 60], [60], [500], [-1, 1]]
    assert list(run.rounds([])) == []


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pipelines that were run, one object of five counted in each; one object is skipped in the listing."""
    found: list[str] = []

    def keep(pipeline: beam.Pipeline) -> Outcome:
        found.append(graph_text(pipeline))
        return Outcome(objects=1)

    def log_files(
        bucket: str, prefix: str, config: Any, slots: Any, skip: Callable[[str], None]
    ) -> Iterator[ObjectRef]:
        skip("undated_skipped")
        yield from refs(1, 1, 1, 1, 1)

    monkeypatch.setattr(run, "_run", keep)
    monkeypatch.setattr(run, "log_files", log_files)
    monkeypatch.setattr(run, "_ROUND_OBJECTS", 2)
    return found


def test_every_object_is_in_one_round_and_what_was_done_is_added_up(graphs: list[str]) -> None:
    done = run.backfill(CONFIG, ["s3://logs/"], [])

    assert [[f"object-{number}.gz" in graph for number in range(5)].count(True) for graph in graphs] == [2, 2, 1]
    assert done == Outcome(objects=3, undated_skipped=1)


def test_another_runner_is_given_all_of_it_at_once_and_lists_by_itself(graphs: list[str]) -> None:
    run.backfill(CONFIG, ["s3://logs/"], ["--runner=PortableRunner"])

    assert [("object-0.gz" in graph, "ListObjects" in graph) for graph in graphs] == [(False, True)]
