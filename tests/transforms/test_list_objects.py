"""Listing: what a backfill takes of a bucket, and what it leaves out and counts."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.object_key import SlotRange
from beam_flowlogs.times import TimeRange
from beam_flowlogs.transforms import list_objects as module
from beam_flowlogs.transforms.announce import decode_ref
from beam_flowlogs.transforms.list_objects import ListObjects, log_files
from tests.test_object_key import REGION, PagedS3

DAY = datetime(2026, 1, 31, tzinfo=timezone.utc)
CONFIG = JobConfig(ElasticsearchConfig(urls=("http://127.0.0.1:9",)), "s3://logs/dead", ("logs",))


def _key(slot: datetime) -> str:
    return f"{REGION}{slot:%Y/%m/%d/}123456789012_vpcflowlogs_eu-west-1_fl-0a1_{slot:%Y%m%dT%H%MZ}_1a2b3c4d.log.gz"


SLOTS = [DAY + timedelta(hours=hour) for hour in range(-48, 72, 6)]
OF_THE_DAY = [_key(slot) for slot in SLOTS if slot.date() == DAY.date()]
OTHERS = ["notes.txt", "dead/row/2026/01/31/x-A.avro", "dead/.writable", f"{REGION}2026/01/31/", "copies/x.log"]


@pytest.fixture(autouse=True)
def _bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = PagedS3([*map(_key, SLOTS), *OTHERS], 3)
    monkeypatch.setattr(module, "s3_client", lambda: bucket)


@pytest.mark.parametrize(
    ("slots", "keys", "skipped"),
    [
        (SlotRange(), [*map(_key, SLOTS), "notes.txt", "copies/x.log"], {"dead_letters_skipped": 2}),
        (
            SlotRange(TimeRange(DAY, DAY + timedelta(days=1))),
            OF_THE_DAY,
            {"dead_letters_skipped": 2, "undated_skipped": 2},
        ),
    ],
    ids=["all", "a day"],
)
def test_a_range_leaves_out_other_times_and_counts_what_tells_none(
    slots: SlotRange, keys: list[str], skipped: dict[str, int]
) -> None:
    told: Counter[str] = Counter()

    found = [ref.key for ref in log_files("logs", "", CONFIG, slots, lambda why: told.update([why]))]

    assert found == sorted(keys)
    assert told == skipped

    # The same on a runner's workers, where the counts are metrics.
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    listed = pipeline | "ListObjects" >> ListObjects(["s3://logs/"], CONFIG, slots)
    assert_that(listed | "Keys" >> beam.Map(lambda element: decode_ref(element[1]).key), equal_to(sorted(keys)))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("flowlogs"))["counters"]
    assert {counter.key.metric.name: counter.result for counter in counters if counter.result} == skipped
