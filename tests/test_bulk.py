from __future__ import annotations

import logging
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from beam_flowlogs.bulk import BulkCancelled, BulkConfig, BulkGaveUp, BulkWriter
from beam_flowlogs.bulk_request import Verdict, cut, verdict
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from tests.fake_elasticsearch import FakeElasticsearch, error


@pytest.fixture
def server() -> Iterator[FakeElasticsearch]:
    with FakeElasticsearch() as fake:
        yield fake


def writer(server: FakeElasticsearch, **limits: Any) -> BulkWriter:
    config = ElasticsearchConfig(urls=(server.url,))
    return BulkWriter(lambda: connect(config), BulkConfig(**{"first_delay": 0.01, "longest_delay": 0.05} | limits))


def items(count: int, first: int = 0, operation: str = "create") -> pa.Array:
    lines = [
        b'{"%b":{"_index":"i","_id":"%d"}}\n{"n":%d}\n' % (operation.encode(), n, n)
        for n in range(first, first + count)
    ]
    return pa.array(lines, pa.large_binary())


@pytest.mark.parametrize(
    ("operation", "status", "error_type", "expected"),
    [
        ("create", 201, "", Verdict.WRITTEN),
        ("index", 200, "", Verdict.WRITTEN),
        ("create", 409, "version_conflict_engine_exception", Verdict.CONFLICT),
        ("index", 409, "version_conflict_engine_exception", Verdict.CONFLICT),
        ("update", 409, "version_conflict_engine_exception", Verdict.RESEND),
        ("create", 429, "cluster_block_exception", Verdict.RESEND),
        ("create", 429, "es_rejected_execution_exception", Verdict.RESEND),
        ("create", 403, "cluster_block_exception", Verdict.RESEND),
        ("create", 403, "security_exception", Verdict.RESEND),
        ("create", 503, "unavailable_shards_exception", Verdict.RESEND),
        ("create", 500, "anything", Verdict.RESEND),
        ("create", 400, "validation_exception", Verdict.RESEND),
        ("create", 400, "document_parsing_exception", Verdict.REJECT),
        ("create", 400, "index_closed_exception", Verdict.RESEND),
        ("create", 404, "index_not_found_exception", Verdict.RESEND),
        ("update", 404, "document_missing_exception", Verdict.REJECT),
    ],
)
def test_each_status_has_one_verdict(operation: str, status: int, error_type: str, expected: Verdict) -> None:
    assert verdict(operation, status, error_type) is expected


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bodies_are_the_arrays_bytes_cut_at_both_limits(kind: pa.DataType) -> None:
    values = [b"a" * n for n in (3, 3, 3, 10, 1, 1, 1, 1)]
    array = pa.array([b"before", *values, b"after"], kind).slice(1, len(values))
    bodies = list(cut(array, 100, max_bytes=6, max_actions=3))
    assert [body.view() for body in bodies] == [b"aaaaaa", b"aaa", b"a" * 10, b"aaa", b"a"]
    assert [p for body in bodies for p in body.positions] == list(range(100, 108))


def test_chunks_are_cut_with_positions_that_run_on() -> None:
    chunks = pa.chunked_array([items(3), pa.array([], pa.large_binary()), items(2, first=3)])
    assert [list(body.positions) for body in cut(chunks, 0, 1 << 20, 2)] == [[0, 1], [2], [3, 4]]


def test_items_must_be_binary_and_present() -> None:
    with pytest.raises(TypeError, match="not string: cast it"):
        list(cut(pa.array(["a"]), 0, 1, 1))
    with pytest.raises(ValueError, match="1 of 2 bulk items are null"):
        list(cut(pa.array([b"a", None]), 0, 1, 1))


def test_everything_is_written_in_bodies_of_the_configured_size(server: FakeElasticsearch) -> None:
    result = writer(server, max_actions=40).write(items(100))
    assert (result.written, result.duplicates, result.rejected, result.retries) == (100, 0, (), 0)
    assert sorted(map(len, server.bodies)) == [20, 40, 40]
    assert server.documents == {str(n): {"n": n} for n in range(100)}
    assert result.bytes == sum(len(item) for item in items(100).to_pylist())
    assert len(result.latencies) == 3


def test_nothing_submitted_sends_nothing(server: FakeElasticsearch) -> None:
    assert writer(server).write(items(0)).written == 0
    assert server.bodies == []


def test_a_create_that_exists_is_a_duplicate_and_names_its_position(server: FakeElasticsearch) -> None:
    writer(server).write(items(2, first=5))
    result = writer(server, max_actions=3).write(items(10))
    assert (result.written, result.conflicts, result.duplicates) == (8, (5, 6), 2)


def test_only_the_items_that_failed_are_sent_again(server: FakeElasticsearch) -> None:
    left = Counter({"3": 2, "7": 1})

    def busy(name: str, _: Any) -> tuple[int, str] | None:
        left[name] -= 1
        return (429, "es_rejected_execution_exception") if left[name] >= 0 else None

    server.item_fault = busy
    result = writer(server).write(items(10))
    assert (result.written, result.duplicates, result.retries) == (10, 0, 2)
    assert server.bodies[1:] == [["3", "7"], ["3"]]


def test_a_reject_carries_position_reason_and_bytes_and_the_others_are_written(server: FakeElasticsearch) -> None:
    server.item_fault = lambda name, _: (400, "document_parsing_exception") if name == "4" else None
    result = writer(server, max_actions=3).write(items(10))
    (rejected,) = result.rejected
    assert result.written == 9
    assert (rejected.position, rejected.status, rejected.reason) == (4, 400, "document_parsing_exception")
    assert rejected.detail == "item 4"
    assert rejected.data == items(10)[4].as_py()


def test_positions_stay_right_when_resent_items_meet_new_verdicts(server: FakeElasticsearch) -> None:
    seen: Counter[str] = Counter()

    def moody(name: str, _: Any) -> tuple[int, str] | None:
        seen[name] += 1
        if int(name) % 3 == 0 and seen[name] < 3:
            return 503, "unavailable_shards_exception"
        return {"6": (409, "version_conflict_engine_exception"), "9": (400, "mapper_parsing_exception")}.get(name)

    server.item_fault = moody
    result = writer(server).write(items(12))
    assert (result.written, result.conflicts) == (10, (6,))
    assert [item.position for item in result.rejected] == [9]
    assert all(count == (3 if int(name) % 3 == 0 else 1) for name, count in seen.items())


@pytest.mark.parametrize(
    "answer",
    [
        error(429, "circuit_breaking_exception"),
        error(503, "unavailable"),
        error(403, "cluster_block_exception"),
        error(401, "security_exception"),
        error(400, "media_type_header_exception"),
        error(404, "not_found"),
        (200, b"<html>an answer from a proxy</html>"),
        (200, b'{"errors":false,"items":[{"create":{"status":201}}]}'),
        (200, b'{"errors":false,"items":[{"create":{"sta'),
        (200, b'{"errors":false,"items":[' + b'{"create":{"status":201}},' * 2 + b'{"create":{"status":20'),
        (200, b"null"),
        (200, {"errors": True, "items": ["what", "is", "this"]}),
        (502, b"Bad Gateway"),
        (400, b"The plain HTTP request was sent to HTTPS port"),
    ],
)
def test_a_request_that_came_to_nothing_is_sent_again_whole(server: FakeElasticsearch, answer: Any) -> None:
    server.answers.extend([answer, answer])
    result = writer(server).write(items(3))
    assert (result.written, result.rejected, result.retries) == (3, (), 2)
    assert server.bodies == [["0", "1", "2"]] * 3


def test_a_body_that_is_too_large_is_halved_until_it_fits(server: FakeElasticsearch) -> None:
    server.answers.extend([(413, b""), (413, b""), None, None, None])
    result = writer(server).write(items(8))
    assert (result.written, result.rejected, result.retries) == (8, (), 0)
    assert [list(map(int, body)) for body in server.bodies[1:]] == [[0, 1, 2, 3], [0, 1], [2, 3], [4, 5, 6, 7]]


def test_what_was_too_large_once_is_not_tried_again(server: FakeElasticsearch) -> None:
    server.answers.append((413, b""))
    sender = writer(server)
    sender.write(items(8))
    assert sender.max_bytes == len(b"".join(items(8).to_pylist())) // 2
    sender.write(items(8))
    assert [list(map(int, body)) for body in server.bodies[3:]] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_single_item_that_is_too_large_is_rejected_with_the_cure(server: FakeElasticsearch) -> None:
    server.answers.append((413, b""))
    (rejected,) = writer(server).write(items(1)).rejected
    assert (rejected.status, rejected.reason) == (413, "content_too_large")
    assert "http.max_content_length" in rejected.detail


def test_a_malformed_item_is_found_by_halving_and_rejected_alone(server: FakeElasticsearch) -> None:
    malformed = error(400, "illegal_argument_exception", "Malformed action/metadata line")
    server.answers.extend([malformed, None, malformed, malformed])  # 0..3, 0..1, 2..3, 2
    result = writer(server).write(items(4))
    assert result.written == 3
    assert [(item.position, item.reason) for item in result.rejected] == [(2, "illegal_argument_exception")]


def test_patience_has_an_end_when_one_is_stated(server: FakeElasticsearch) -> None:
    server.answers.extend([error(401, "security_exception", "unable to authenticate")] * 1000)
    with pytest.raises(BulkGaveUp, match=r"3 bulk items made no progress .* 401 .*unable to authenticate.*credentials"):
        writer(server, retry_for=0.2).write(items(3))
    assert server.documents == {}


def test_progress_renews_the_patience(server: FakeElasticsearch) -> None:
    seen: Counter[str] = Counter()

    def one_at_a_time(name: str, _: Any) -> tuple[int, str] | None:
        seen[name] += 1
        return None if seen[name] > int(name) else (429, "es_rejected_execution_exception")

    server.item_fault = one_at_a_time
    assert writer(server, retry_for=0.6, first_delay=0.12).write(items(12)).written == 12


def test_a_server_that_is_away_is_awaited(server: FakeElasticsearch) -> None:
    sink = writer(server)
    server._server.server_close()
    found = []
    waiting = threading.Thread(target=lambda: found.append(sink.write(items(3))))
    waiting.start()
    time.sleep(0.2)
    assert not found
    port = int(server.url.rpartition(":")[2])
    with FakeElasticsearch(port) as back:
        waiting.join(10)
        assert len(back.documents) == 3
    assert found[0].retries > 0


def test_trouble_is_told_once_per_interval_with_its_cure(
    server: FakeElasticsearch, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers.extend([error(429, "circuit_breaking_exception", "Data too large")] * 6)
    with caplog.at_level(logging.WARNING, "beam_flowlogs"):
        writer(server).write(items(3))
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("beam_flowlogs")]
    assert "Data too large" in warning
    assert "nothing is lost" in warning
    assert "send less" in warning


def test_a_warning_comes_again_while_trouble_lasts_and_says_for_how_long(
    server: FakeElasticsearch, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers.extend([error(503, "unavailable")] * 30)
    with caplog.at_level(logging.WARNING, "beam_flowlogs"):
        writer(server, warn_every=0.5).write(items(3))
    told = [record for record in caplog.records if record.name == "beam_flowlogs.bulk"]
    assert 2 <= len(told) <= 6
    assert "taken 3 bulk items; nothing is lost" in told[0].getMessage()
    assert re.search(r"for [1-9]\d* s", told[-1].getMessage())
    assert told[1].created - told[0].created >= 0.5


def test_each_kind_of_trouble_is_told_on_its_own(server: FakeElasticsearch, caplog: pytest.LogCaptureFixture) -> None:
    seen: Counter[str] = Counter()

    def troubled(name: str, _: Any) -> tuple[int, str] | None:
        seen[name] += 1
        kind = {"0": (429, "es_rejected_execution_exception"), "1": (400, "index_closed_exception")}.get(name)
        return kind if seen[name] < 4 else None

    server.item_fault = troubled
    with caplog.at_level(logging.WARNING, "beam_flowlogs"):
        writer(server).write(items(3))
    told = [record.getMessage() for record in caplog.records if record.name == "beam_flowlogs.bulk"]
    assert len(told) == 2
    assert "send less" in told[0]
    assert "POST <index>/_open" in told[1]


def test_an_interrupt_ends_a_wait_without_end() -> None:
    program = """
import pyarrow as pa
from beam_flowlogs.bulk import BulkWriter
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
config = ElasticsearchConfig(urls=("http://127.0.0.1:1",))
print("waits", flush=True)
BulkWriter(lambda: connect(config)).write(pa.array([b"x"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"waits\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors


def test_an_error_under_way_surfaces_in_the_next_submit_or_flush(server: FakeElasticsearch) -> None:
    server.answers.extend([error(401, "security_exception")] * 1000)
    with writer(server, retry_for=0).stream() as stream:
        stream.submit(items(3))
        with pytest.raises(BulkGaveUp):
            stream.flush()


def test_the_caller_goes_on_while_a_body_is_sent(server: FakeElasticsearch) -> None:
    go_on = threading.Event()
    server.on_request = lambda: (go_on.wait(10), None)[1]
    with writer(server, concurrency=2).stream() as stream:
        stream.submit(items(3))
        stream.submit(items(3, first=3))  # both under way, none answered
        assert stream.poll().written == 0
        go_on.set()
        assert stream.flush().written == 6


def test_a_submit_waits_while_as_many_bodies_as_allowed_are_under_way(server: FakeElasticsearch) -> None:
    go_on = threading.Event()
    server.on_request = lambda: (go_on.wait(10), None)[1]
    with writer(server, concurrency=1).stream() as stream:
        stream.submit(items(3))
        second = threading.Thread(target=stream.submit, args=(items(3, first=3),))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        go_on.set()
        second.join(10)
        assert stream.flush().written == 6


def test_what_ends_behind_a_stuck_body_does_not_pile_up_without_end(server: FakeElasticsearch) -> None:
    go_on = threading.Event()
    server.item_fault = lambda name, _: (429, "busy") if name == "0" and not go_on.is_set() else None
    data = pa.chunked_array([items(1, first=n) for n in range(20)])
    with writer(server, concurrency=2).stream() as stream:
        feeding = threading.Thread(target=stream.submit, args=(data,))
        feeding.start()
        feeding.join(1)
        assert feeding.is_alive()
        assert sorted(server.documents) == ["1", "2", "3"]
        go_on.set()
        feeding.join(10)
        assert stream.flush().written == 20


def test_positions_count_through_all_submits_of_a_flush_and_begin_anew(server: FakeElasticsearch) -> None:
    server.item_fault = lambda name, _: (400, "bad") if name in ("1", "5", "8") else None
    with writer(server).stream() as stream:
        stream.submit(items(4))
        stream.submit(items(3, first=4))
        assert [item.position for item in stream.flush().rejected] == [1, 5]
        stream.submit(items(2, first=7))
        assert [item.position for item in stream.flush().rejected] == [1]


def test_a_poll_tells_of_bodies_in_the_order_of_submits(server: FakeElasticsearch) -> None:
    go_on = threading.Event()

    def hold_the_first(name: str, _: Any) -> tuple[int, str] | None:
        return None if name != "0" or go_on.is_set() else (429, "es_rejected_execution_exception")

    server.item_fault = hold_the_first
    with writer(server, concurrency=2).stream() as stream:
        stream.submit(items(2))
        stream.submit(items(3, first=2))
        while not stream._under_way[1].done():
            time.sleep(0.01)
        assert stream.poll().written == 0
        go_on.set()
        assert stream.flush().written == 5


def test_leaving_a_stream_ends_what_waits_in_it(server: FakeElasticsearch) -> None:
    server.answers.extend([error(503, "unavailable")] * 1000)
    sink = writer(server, first_delay=30, longest_delay=30)
    with sink.stream() as stream:
        stream.submit(items(3))
        (future,) = stream._under_way
        while not server.bodies:
            time.sleep(0.01)
    assert isinstance(future.exception(5), BulkCancelled)
    server.answers.clear()
    assert sink.write(items(3)).written == 3  # the room is free again


def test_an_overloaded_cluster_gets_fewer_requests_at_a_time(server: FakeElasticsearch) -> None:
    sink = writer(server, max_actions=1, concurrency=4)
    sink.write(items(20))
    assert sink.concurrency == 4
    server.answers.extend([error(429, "es_rejected_execution_exception")] * 3)
    sink.write(items(1, first=20))
    assert sink.concurrency < 4
    sink.write(items(40, first=21))
    assert sink.concurrency == 4


def test_a_server_not_yet_known_gets_one_request_at_a_time(server: FakeElasticsearch) -> None:
    go_on = threading.Event()
    arrived: list[int] = []

    def hold() -> None:
        arrived.append(1)
        go_on.wait(10)

    server.on_request = hold
    sink = writer(server, concurrency=4)
    with sink.stream() as stream:
        for n in range(4):
            stream.submit(items(1, first=n))
        time.sleep(0.3)
        assert (len(arrived), sink.in_flight) == (1, 1)
        go_on.set()
        assert stream.flush().written == 4


def test_requests_in_flight_stay_below_the_limit(server: FakeElasticsearch) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def count() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    server.on_request = count
    sink = writer(server, max_actions=1, concurrency=3)
    threads = [threading.Thread(target=sink.write, args=(items(10, first=10 * n),)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3
    assert len(server.documents) == 30
    assert sink.in_flight == 0


def test_a_closed_writer_leaves_no_thread(server: FakeElasticsearch) -> None:
    before = set(threading.enumerate())
    sink = writer(server, max_actions=1)
    sink.write(items(20))
    own = {thread for thread in threading.enumerate() if thread.name.startswith("bulk")} - before
    assert own
    sink.close()
    assert not any(thread.is_alive() for thread in own)


def test_config_and_results_can_be_pickled() -> None:
    for value in (BulkConfig(retry_for=3), BulkGaveUp("after 3 s")):
        assert repr(pickle.loads(pickle.dumps(value))) == repr(value)


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"concurrency": -1}, {"max_actions": 0}, {"retry_for": -1}])
def test_a_limit_that_makes_no_sense_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BulkConfig(**wrong)


def test_the_clients_debug_log_tells_the_size_of_bodies_and_not_their_flows(
    server: FakeElasticsearch, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("elastic_transport.node")
    log.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.DEBUG, log.name):
            assert writer(server).write(items(2)).written == 2
    finally:
        log.removeHandler(caplog.handler)
    assert "POST" in caplog.text
    assert " bytes" in caplog.text
    assert '{"n":1}' not in caplog.text
