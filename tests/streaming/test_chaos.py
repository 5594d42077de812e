"""The long form of the kill suite: `make test-chaos`. What was shown by it stands in docs/reliability.md."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.generate.config import default_start
from tests.streaming.job import NAME, VISIBILITY_S, Stream, until
from tests.streaming.recorder import Exchange

pytestmark = [
    pytest.mark.integration,
    pytest.mark.flink,
    pytest.mark.timeout(1200),
    pytest.mark.skipif("FLOWLOGS_CHAOS" not in os.environ, reason="the long form of the kill suite: make test-chaos"),
]


def _bulk_of(index: str) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.path.startswith("/_bulk") and index.encode() in exchange.body[:300]


def _reads_an_object(exchange: Exchange) -> bool:
    return exchange.method == "GET" and ".log.gz" in exchange.path


def _deletes_messages(exchange: Exchange) -> bool:
    return exchange.headers.get("x-amz-target", "").endswith("DeleteMessageBatch")


@pytest.mark.parametrize(
    ("seed", "proxy", "phase", "condition"),
    [
        pytest.param(11, "to_aws", "after", _reads_an_object, id="in-the-middle-of-an-object"),
        pytest.param(12, "to_elasticsearch", "before", _bulk_of("flowlogs-raw"), id="in-the-middle-of-a-bulk"),
        pytest.param(13, "to_elasticsearch", "before", _bulk_of("flowlogs-rollup"), id="between-raw-and-roll-up"),
        pytest.param(14, "to_elasticsearch", "after", _bulk_of("flowlogs-rollup"), id="between-roll-up-and-deletion"),
        pytest.param(15, "to_aws", "after", _deletes_messages, id="right-after-an-acknowledgement"),
    ],
)
def test_a_machine_dies(
    stream: Stream, seed: int, proxy: str, phase: str, condition: Callable[[Exchange], bool]
) -> None:
    def die() -> None:
        workers = stream.workers()
        stream.flink.task_manager.child.kill()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    dead = getattr(stream, proxy).once(phase, condition, die)
    truth = stream.feed(seed, default_start(6), records=20_000, slots=6)

    assert dead.wait(120)
    stream.settle()
    stream.assert_exact(seed, truth)
    stream.assert_acknowledged_last(truth)


def test_ten_kills_in_a_run(stream: Stream) -> None:
    chance = random.Random(16)
    truth = stream.feed(16, default_start(24), records=100_000, slots=24)
    for number in range(10):
        time.sleep(chance.uniform(5, 12))
        if number % 3 == 2:
            for pid in stream.workers():
                os.kill(pid, signal.SIGKILL)
        else:
            stream.flink.task_manager.child.kill()

    stream.settle()
    stream.assert_exact(16, truth)
    stream.assert_acknowledged_last(truth)


def test_the_job_manager_dies_and_the_job_is_handed_in_again_from_its_last_checkpoint(stream: Stream) -> None:
    truth = stream.feed(17, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents()
    job = stream.rest.running("flowlogs").id

    stream.flink.job_manager.child.kill()
    kept = (stream.flink.job_manager.storage / "checkpoints" / job).glob("chk-*/_metadata")
    latest = max(kept, key=lambda file: file.stat().st_mtime).parent
    until(lambda: stream.flink.task_manager.running, 90, "the JobManager and its TaskManager")
    stream.start("--from-savepoint", latest.as_uri())

    stream.settle()
    stream.assert_exact(17, truth)
    stream.assert_acknowledged_last(truth)


def test_s3_and_sqs_refuse_for_a_while(stream: Stream) -> None:
    truth = stream.feed(18, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents()

    stream.to_aws.refusing = True
    time.sleep(30)
    stream.to_aws.refusing = False

    stream.settle()
    stream.assert_exact(18, truth)
    stream.assert_acknowledged_last(truth)


def test_checkpoints_fail_for_a_while(stream: Stream) -> None:
    truth = stream.feed(19, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents()
    job = stream.rest.running("flowlogs").id
    folder = stream.flink.job_manager.storage / "checkpoints" / job
    before = set(stream.record.given_back)
    failed = stream.rest.checkpoints(job).failed

    away = folder.rename(folder.with_name("away"))
    folder.write_text("a file where the folder of checkpoints should be")
    until(lambda: stream.rest.checkpoints(job).failed > failed, 60, "a checkpoint that fails")
    folder.unlink()
    shutil.copytree(away, folder, dirs_exist_ok=True)

    stream.settle()
    stream.assert_exact(19, truth)
    stream.assert_acknowledged_last(truth)
    assert stream.record.given_back == before, "a job that starts again keeps what is under way"


def test_a_job_that_is_stopped_gives_back_what_it_has_under_way(stream: Stream) -> None:
    truth = stream.feed(22, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents()
    hidden = stream.hidden()

    stream.run("stop")
    assert hidden > 0
    assert stream.hidden() == 0
    stream.start()

    stream.settle()
    stream.assert_exact(22, truth)
    stream.assert_acknowledged_last(truth)


def test_processing_takes_longer_than_messages_are_hidden(stream: Stream) -> None:
    truth = stream.feed(20, default_start(6), records=20_000, slots=6)
    stream.wait_for_documents()

    workers = stream.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # so that nobody extends them either
    time.sleep(VISIBILITY_S + 5)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)

    stream.settle()
    stream.assert_exact(20, truth)
    stream.assert_acknowledged_last(truth)
    assert stream.receipts(truth) > len(truth.objects) + 2 * len(truth.objects[::3]), "nothing was received again"


@pytest.fixture
def second_job(stream: Stream) -> Iterator[None]:
    stream.start("--job-name", "second")
    yield
    stream.run("stop", "--job-name", "second")


@pytest.mark.usefixtures("second_job")
def test_two_jobs_share_a_queue(stream: Stream) -> None:
    truth = stream.feed(21, default_start(6), records=40_000, slots=6)

    stream.settle()
    stream.assert_exact(21, truth)
    stream.assert_acknowledged_last(truth)


@pytest.fixture
def impatient_job(stream: Stream) -> Iterator[None]:
    """The job with a watermark that trails by ten seconds only."""
    stream.run("stop")
    stream.start("--delivery-delay", "10")
    yield
    stream.run("stop")
    stream.start()


def _pane(stream: Stream, interface: str) -> str:
    """The pane that the one roll-up of an interface was written in last; "" while there is none."""
    stream.client.indices.refresh(index="flowlogs-rollup-*", ignore_unavailable=True)
    hits = stream.client.search(
        index="flowlogs-rollup-*", ignore_unavailable=True, query={"term": {"flowlogs.rollup.key": interface}}
    )["hits"]["hits"]
    return str(hits[0]["_source"]["flowlogs"]["rollup"]["pane"]) if hits else ""


@pytest.mark.usefixtures("impatient_job")
def test_a_roll_up_says_whether_it_was_written_early_on_time_or_late(stream: Stream) -> None:
    interface = "eni-0123456789abcdef0"
    window = (int(time.time()) + 60) // 60 * 60

    def put(name: str) -> None:
        fields = ["2", "123456789012", interface, "10.0.0.1", "10.0.0.2", "1", "2", "6", "1", "100"]
        record = " ".join([*fields, str(window), str(window + 1), "ACCEPT", "OK"])
        body = f"{' '.join(DEFAULT_FORMAT)}\n{record}\n".encode()
        stream.s3.put_object(Bucket=NAME, Key=f"panes/{name}.log", Body=body)

    put("first")
    until(lambda: _pane(stream, interface) == "early", 90, "an early pane")
    time.sleep(max(0, window + 60 - 5 - time.time()))
    put("second")
    until(lambda: _pane(stream, interface) == "on_time", 90, "a pane on time")
    time.sleep(max(0, window + 60 + 15 - time.time()))
    put("third")
    until(lambda: _pane(stream, interface) == "late", 90, "a late pane")
    stream.settle()
    proof = verify(stream.client, 60)
    assert (proof.documents, proof.differences) == (stream.before + 3, [])
