"""Killing things while a job streams on a real Flink: nothing may be lost, counted twice, or acknowledged too soon.

The short form; test_chaos.py is the long one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from beam_flowlogs.generate.config import default_start
from tests.streaming.job import Stream

pytestmark = [pytest.mark.integration, pytest.mark.flink, pytest.mark.timeout(600)]

LONG_AGO = 1_764_000_000


def _kill_the_task_manager(stream: Stream) -> None:
    stream.flink.task_manager.child.kill()


def _kill_the_workers(stream: Stream) -> None:
    for pid in stream.workers():
        os.kill(pid, signal.SIGKILL)


def _take_elasticsearch_away(stream: Stream) -> None:
    stream.elasticsearch.kill()
    time.sleep(10)
    stream.elasticsearch.start()


@pytest.mark.parametrize(
    ("seed", "start", "trouble"),
    [
        pytest.param(1, 0, _kill_the_task_manager, id="task-manager"),
        pytest.param(2, LONG_AGO, _kill_the_workers, id="workers-with-flow-logs-of-long-ago"),
        pytest.param(3, 0, _take_elasticsearch_away, id="elasticsearch-away-for-10-s"),
    ],
)
def test_nothing_is_lost_or_counted_twice_or_acknowledged_too_soon(
    stream: Stream, seed: int, start: int, trouble: Callable[[Stream], None]
) -> None:
    truth = stream.feed(seed, start or default_start(6), records=20_000, slots=6)
    stream.wait_for_documents(truth.records // 20)

    trouble(stream)

    stream.settle()
    stream.assert_exact(seed, truth)
    stream.assert_acknowledged_last(truth)


def test_a_job_with_other_steps_and_another_parallelism_goes_on_from_the_savepoint(stream: Stream) -> None:
    truth = stream.feed(4, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents(truth.records // 20)

    hidden = stream.hidden()
    savepoint = stream.run("stop", "--savepoint")
    assert hidden > 0
    assert stream.hidden() == 0, "on a clean stop, messages under way are given back at once"
    stream.start("--from-savepoint", savepoint, "--parallelism", "1", "--rollup-window", "60s,1h")

    stream.settle()
    stream.assert_exact(4, truth)
    stream.assert_acknowledged_last(truth)
