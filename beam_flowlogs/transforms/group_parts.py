"""Parts of roll-ups in; those of a window's shard together, as often as it is worth writing their roll-ups.

Windows and triggers decide only when a roll-up is written. What is in it is the merge's doing, so nothing here can make
it wrong: neither a pane that comes twice, nor one that never comes on time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.trigger import AccumulationMode, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming

from beam_flowlogs.part_codec import Shard, encode_parts
from beam_flowlogs.rollup import Part, RollUpKey
from beam_flowlogs.transforms.typed import typed

EARLY_S = 30
"""Seconds of processing time after which what has come together of a roll-up is written."""

_MARGIN_S = 60
"""The watermark may be ahead of this worker's clock by so much; a part is late a little sooner rather than dropped."""

_PANES = {PaneInfoTiming.EARLY: "early", PaneInfoTiming.ON_TIME: "on_time", PaneInfoTiming.LATE: "late"}

Grouped = tuple[str, str, list[bytes]]
"""A shard, when its parts came (``early``, ``on_time``, ``late``; "" where no runner says), and values of parts."""


class Parts(NamedTuple):
    """What the value of an element says: of which message it is, how many parts there are, and their bytes."""

    token: str
    size: int
    data: bytes

    @classmethod
    def of(cls, value: bytes) -> Parts:
        """Return what ``keyed_parts`` made a value of."""
        head, _, data = value.partition(b"\n")
        token, _, count = head.decode().partition(" ")
        return cls(token, int(count), data)


def keyed_parts(token: str, parts: Iterable[tuple[RollUpKey, Part]]) -> Iterator[tuple[Shard, bytes]]:
    """Yield an object's parts as they cross the shuffle: the shard, and the value of those that travel together."""
    for shard, count, data in encode_parts(parts):
        yield shard, f"{token} {count}\n".encode() + data


class GroupParts(beam.PTransform):
    """Bring the parts of each roll-up together in its window, all those of a shard at once.

    In: ``tuple[str, bytes]``, encoded shard and value of ``keyed_parts``, stamped with the window's start. Out:
    ``Grouped``, in the global window. Bounded input gives each shard once. Endless input gives it every ``EARLY_S``
    seconds while parts come, when the watermark passes the window's end, and for parts after that; each part is given
    once (discarding).
    Parts that come more than ``lateness_s`` after the window's end, which Beam would drop, go around the window; the
    counter ``parts_around_window`` counts them.
    """

    def __init__(self, windows: Iterable[int], lateness_s: int, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._windows = tuple(windows)
        self._lateness_s = lateness_s
        self._clock = clock

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        """Wire the transform."""
        if parts.is_bounded:
            # All of it is there at once, and the key names the window: to have the runner keep windows and triggers
            # besides cost more than all else that is done for a roll-up.
            return parts | "ByShard" >> beam.GroupByKey() | "Whole" >> beam.MapTuple(_whole).with_output_types(Grouped)
        routed = parts | "Route" >> beam.ParDo(_RouteFn(self._lateness_s, self._clock)).with_outputs(
            "around", main="in_time"
        )
        trigger = {
            "trigger": AfterWatermark(early=AfterProcessingTime(EARLY_S), late=AfterProcessingTime(EARLY_S)),
            "accumulation_mode": AccumulationMode.DISCARDING,
            "allowed_lateness": self._lateness_s,
        }
        around = (
            typed(routed.around, "Around", tuple[str, bytes])
            | "AroundWindow" >> beam.Map(_alone).with_output_types(Grouped)
            | "UnwindowAround" >> beam.WindowInto(GlobalWindows())
        )
        in_time = typed(routed.in_time, "InTime", tuple[str, bytes])
        return (*self._grouped(in_time, trigger), around) | "Together" >> beam.Flatten()

    def _grouped(self, parts: beam.PCollection, trigger: Mapping[str, Any]) -> tuple[beam.PCollection, ...]:
        # The pane is read before the windows are left, since WindowInto forgets it. Then all windows are global, so
        # that what follows can be flattened, and counted by message.
        return tuple(
            parts
            | f"Of{window_s}s" >> beam.Filter(_has_length, f"[{window_s},")
            | f"Window{window_s}s" >> beam.WindowInto(FixedWindows(window_s), **trigger)
            | f"ByShard{window_s}s" >> beam.GroupByKey()
            | f"Pane{window_s}s" >> beam.ParDo(_TellPaneFn()).with_output_types(Grouped)
            | f"Unwindow{window_s}s" >> beam.WindowInto(GlobalWindows())
            for window_s in self._windows
        )


def _has_length(element: tuple[str, bytes], prefix: str) -> bool:
    return element[0].startswith(prefix)


def _whole(key: str, values: Iterable[bytes]) -> Grouped:
    return key, "", list(values)


def _alone(element: tuple[str, bytes]) -> Grouped:
    key, value = element
    return key, "late", [value]


class _RouteFn(beam.DoFn):
    """Leads around the window what the window would not take any more.

    Sound as long as the watermark does not pass the wall clock: a part is dropped only once the watermark is past its
    window's end and the lateness, and by then this says that it is late.
    """

    def __init__(self, lateness_s: int, clock: Callable[[], float]) -> None:
        self._lateness_s = lateness_s
        self._clock = clock
        self._around = Metrics.counter("flowlogs", "parts_around_window")

    def process(self, element: tuple[str, bytes]) -> Iterator[tuple[str, bytes] | beam.pvalue.TaggedOutput]:
        shard = Shard.decode(element[0])
        if shard.start + shard.window_s + self._lateness_s <= self._clock() + _MARGIN_S:
            self._around.inc(Parts.of(element[1]).size)
            yield beam.pvalue.TaggedOutput("around", element)
        else:
            yield element


class _TellPaneFn(beam.DoFn):
    def process(
        self,
        element: tuple[str, Iterable[bytes]],
        pane: PaneInfo = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Grouped]:
        key, values = element
        parts = list(values)
        if parts:  # a runner may fire an on-time pane that brings nothing
            yield key, _PANES.get(pane.timing, ""), parts
