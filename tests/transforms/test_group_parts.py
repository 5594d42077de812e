"""When parts are given: early, on time, late, around the window; and that each is given, whatever happens."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.direct.clock import TestClock
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.trigger import InMemoryUnmergedState, create_trigger_driver
from apache_beam.transforms.window import IntervalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_flowlogs.part_codec import Shard, decode_parts
from beam_flowlogs.rollup import COUNTERS, Part, RollUpKey
from beam_flowlogs.transforms.group_parts import _PANES, EARLY_S, Grouped, GroupParts, Parts, keyed_parts

START = 1_764_000_000
LATENESS = 7200
KEYED = tuple[str, bytes]


def part(number: int, *, start: int = START, window_s: int = 60) -> TimestampedValue:
    """A part of the roll-up of ``start`` by an object of its own."""
    counted = Part(f"object-{number}", (1, *[0] * (len(COUNTERS) - 1)), start * 1000, start * 1000, {})
    ((shard, value),) = keyed_parts("token", [(RollUpKey(window_s, start, "interface", "eni-1"), counted)])
    return TimestampedValue((shard.encode(), value), start)


def stream() -> TestStream:
    return TestStream().with_output_types(KEYED).advance_watermark_to(START)


def panes(groups: Iterable[Grouped]) -> list[tuple[str, list[str]]]:
    return [
        (
            pane,
            sorted(
                part.object_id
                for value in values
                for _, part in decode_parts(Shard.decode(shard), Parts.of(value).data)
            ),
        )
        for shard, pane, values in groups
    ]


def gives(expected: list[tuple[str, list[str]]]) -> Any:
    def check(groups: list[Grouped]) -> None:
        assert sorted(panes(groups)) == sorted(expected)

    return check


def run(
    events: TestStream, expected: list[tuple[str, list[str]]], *, now: float = START, windows: tuple[int, ...] = (60,)
) -> None:
    # The one runner of the Python SDK that has triggers on processing time. It stalls on a part that is late and still
    # in its window, so late panes within the lateness are shown on Flink (test_chaos.py) and by ``Windows`` below.
    options = PipelineOptions(["--streaming", "--allow_unsafe_triggers"])
    with TestPipeline(runner="BundleBasedDirectRunner", options=options) as pipeline:
        grouped = pipeline | events | GroupParts(windows, LATENESS, clock=partial(float, now))
        assert_that(grouped, gives(expected))


def test_parts_that_come_before_the_watermark_are_given_early_and_the_rest_on_time() -> None:
    events = (
        stream()
        .add_elements([part(1), part(2)])
        .advance_processing_time(EARLY_S + 1)
        .add_elements([part(3)])
        .advance_watermark_to(START + 61)
        .advance_watermark_to_infinity()
    )

    run(events, [("early", ["object-1", "object-2"]), ("on_time", ["object-3"])])


def test_a_part_beyond_the_lateness_goes_around_the_window() -> None:
    events = (
        stream()
        .add_elements([part(1)])
        .advance_watermark_to(START + LATENESS + 61)
        .add_elements([part(2), part(3, start=START + LATENESS + 60)])
        .advance_watermark_to_infinity()
    )

    run(
        events,
        [("late", ["object-1"]), ("late", ["object-2"]), ("on_time", ["object-3"])],
        now=START + LATENESS + 61,
    )


def test_duplicates_and_parts_out_of_order_are_given_like_any_other() -> None:
    events = stream().add_elements([part(2, start=START + 60), part(1), part(1)]).advance_watermark_to_infinity()

    run(events, [("on_time", ["object-1", "object-1"]), ("on_time", ["object-2"])])


def test_each_length_of_window_has_its_own_time() -> None:
    hour = START // 3600 * 3600
    events = (
        TestStream()
        .with_output_types(KEYED)
        .advance_watermark_to(hour)
        .add_elements([part(1, start=hour), part(2, start=hour, window_s=3600)])
        .advance_watermark_to(hour + 61)
        .add_elements([part(3, start=hour, window_s=3600)])
        .advance_watermark_to_infinity()
    )

    run(events, [("on_time", ["object-1"]), ("on_time", ["object-2", "object-3"])], now=hour, windows=(60, 3600))


class Windows:
    """The windows and triggers of ``GroupParts`` in Beam's own trigger machine, driven by hand: no runner that stalls.

    ``at`` sets both the watermark and the clock, which fires the timers that are due.
    """

    def __init__(self) -> None:
        pipeline = beam.Pipeline(options=PipelineOptions(["--streaming", "--allow_unsafe_triggers"]))  # never run
        _ = pipeline | stream() | GroupParts((60,), LATENESS)
        found: list[beam.transforms.core.Windowing] = []

        class Look(PipelineVisitor):
            def visit_transform(self, applied_ptransform: AppliedPTransform) -> None:
                if "/Window60s" in applied_ptransform.full_label:
                    found.append(applied_ptransform.outputs[None].windowing)

        pipeline.visit(Look())
        self._clock = TestClock(Timestamp(START))
        self._watermark = Timestamp(START)
        self._driver = create_trigger_driver(found[0], clock=self._clock)
        self._state = InMemoryUnmergedState()

    def add(self, *values: str) -> None:
        window = IntervalWindow(START, START + 60)
        elements = [WindowedValue(value, Timestamp(START), [window]) for value in values]
        assert not [*self._driver.process_elements(self._state, elements, self._watermark, self._watermark)]

    def at(self, time: float) -> list[tuple[str, list[str]]]:
        self._watermark = Timestamp(time)
        self._clock.advance_time(time - self._clock.time())
        due, _ = self._state.get_timers(clear=True, watermark=self._watermark, processing_time=self._clock.time())
        fired = [
            pane
            for window, (name, domain, timestamp, _) in due
            for pane in self._driver.process_timer(window, name, domain, timestamp, self._state, self._watermark)
        ]
        return [(_PANES[pane.pane_info.timing], list(pane.value)) for pane in fired if pane.value]


def test_a_part_that_is_late_but_within_the_lateness_is_given_late_and_alone() -> None:
    windows = Windows()
    windows.add("early")
    assert windows.at(START + EARLY_S + 1) == [("early", ["early"])]
    windows.add("in time")
    assert windows.at(START + 60) == [("on_time", ["in time"])]
    windows.add("late", "late too")
    assert windows.at(START + 60 + EARLY_S + 1) == [("late", ["late", "late too"])]
    windows.add("as late as may be")
    assert windows.at(START + 60 + LATENESS) == [("late", ["as late as may be"])]


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
def test_bounded_input_gives_each_roll_up_once_however_late_it_is(runner: str) -> None:
    with TestPipeline(runner=runner) as pipeline:
        grouped = (
            pipeline
            | beam.Create([part(1), part(2), part(3, start=START + 60)])
            | beam.Map(_same).with_output_types(KEYED)
            | GroupParts((60,), LATENESS)
        )

        def check(groups: list[Grouped]) -> None:
            assert sorted(names for _, names in panes(groups)) == [["object-1", "object-2"], ["object-3"]]

        assert_that(grouped, check)


def _same(element: KEYED) -> KEYED:
    return element
