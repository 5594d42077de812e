"""An object's way with everything that can go wrong on it: its parts of the roll-ups are what is durable, exactly."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from beam_flowlogs import index_object as module
from beam_flowlogs.bulk import BulkConfig, BulkGaveUp, BulkWriter
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig, connect
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.index_object import IndexedObject, index_object
from beam_flowlogs.inflate import Limits
from beam_flowlogs.reject import DeadLetters
from beam_flowlogs.s3_object import ObjectRef
from tests.fake_elasticsearch import FakeElasticsearch, error
from tests.test_s3_object import FakeS3, s3_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REF = ObjectRef("logs", "AWSLogs/a.log", etag="e1")
HEADER = " ".join(DEFAULT_FORMAT).encode()


def lines(count: int) -> list[bytes]:
    return [
        b"2 123456789012 eni-%08d 10.0.0.1 10.0.0.2 %d 443 6 10 %d 1764000000 1764000059 ACCEPT OK"
        % (number % 7, number % 60_000, 100 + number)
        for number in range(count)
    ]


def text(rows: list[bytes]) -> bytes:
    return b"\n".join([HEADER, *rows, b""])


@pytest.fixture
def elasticsearch() -> Iterator[FakeElasticsearch]:
    with FakeElasticsearch() as fake:
        yield fake


Index = Callable[..., IndexedObject]


@pytest.fixture
def dead_letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(str(tmp_path))


@pytest.fixture
def index(elasticsearch: FakeElasticsearch, dead_letters: DeadLetters, tmp_path: Path) -> Iterator[Index]:
    config = JobConfig(ElasticsearchConfig(urls=(elasticsearch.url,)), str(tmp_path), ("logs",), retry_for=30)
    bulk = BulkConfig(max_actions=500, retry_for=0, first_delay=0.01)
    writer = BulkWriter(lambda: connect(config.elasticsearch), bulk)

    def run(s3: FakeS3, ref: ObjectRef = REF, **changes: Any) -> IndexedObject:
        return index_object(ref, replace(config, **changes), cast("S3Client", s3), writer, dead_letters)

    yield run
    writer.close()


def assert_counted(done: IndexedObject, elasticsearch: FakeElasticsearch) -> None:
    """The parts together say what the documents together say."""
    documents = elasticsearch.documents.values()
    assert sum(part.counters[0] for _, part in done.parts) == len(documents)
    assert sum(part.counters[1] for _, part in done.parts) == sum(found["network"]["bytes"] for found in documents)


def found(dead_letters: DeadLetters) -> list[tuple[str, str, int]]:
    return sorted((reject.stage, reject.reason, reject.row) for _, reject in dead_letters.read())


def test_every_record_ends_once(index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters) -> None:
    done = index(FakeS3(text(lines(3000))))
    assert (done.written, done.duplicates, done.rejected, done.reason) == (3000, 0, 0, "")
    assert done.ref.etag == "e1"
    assert done.dead_letters == ()
    assert_counted(done, elasticsearch)


def test_the_same_object_again_writes_nothing_and_gives_the_same_parts(
    index: Index, elasticsearch: FakeElasticsearch
) -> None:
    first = index(FakeS3(text(lines(3000))))
    again = index(FakeS3(text(lines(3000))))
    assert (again.written, again.duplicates) == (0, 3000)
    assert again.parts == first.parts
    assert_counted(again, elasticsearch)


def test_a_text_without_header_read_by_other_names_is_another_object(
    index: Index, elasticsearch: FakeElasticsearch
) -> None:
    right = tuple(DEFAULT_FORMAT)
    wrong = tuple({"srcport": "dstport", "dstport": "srcport"}.get(name, name) for name in right)
    headerless = b"\n".join([*lines(20), b""])
    first = index(FakeS3(headerless), names=wrong)
    assert index(FakeS3(headerless), names=wrong).parts == first.parts

    done = index(FakeS3(headerless), names=right)

    assert (done.written, done.duplicates) == (20, 0)
    assert {part.object_id for _, part in done.parts}.isdisjoint({part.object_id for _, part in first.parts})
    assert len(elasticsearch.documents) == 40


def test_names_given_in_vain_change_no_identity(index: Index) -> None:
    first = index(FakeS3(text(lines(20))))
    assert index(FakeS3(text(lines(20))), names=("end", "bytes")).parts == first.parts


def test_documents_that_elasticsearch_rejects_are_in_no_part_and_each_is_kept(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters
) -> None:
    def fault(_: str, document: Any) -> tuple[int, str] | None:
        return (400, "document_parsing_exception") if document["log"]["offset"] % 100 == 42 else None

    elasticsearch.item_fault = fault
    done = index(FakeS3(text(lines(3000))))
    assert (done.written, done.rejected) == (2970, 30)
    assert_counted(done, elasticsearch)
    assert found(dead_letters) == [("document", "document_parsing_exception", row) for row in range(42, 3000, 100)]
    file, reject = next(dead_letters.read())
    assert done.dead_letters == (file,)
    assert (reject.bucket, reject.key, reject.etag) == ("logs", REF.key, "e1")
    assert b'"offset":42' in reject.data


def test_bad_rows_are_kept_as_they_came_and_the_others_keep_their_numbers(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters
) -> None:
    rows = lines(10)
    rows[3] = b"2 x y"
    done = index(FakeS3(text(rows)))
    assert (done.written, done.rejected) == (9, 1)
    assert_counted(done, elasticsearch)
    ((_, reject),) = dead_letters.read()
    assert (reject.stage, reject.row) == ("row", 3)
    assert reject.data.splitlines() == [HEADER, b"2 x y"]


@pytest.mark.parametrize("limit", ["_REJECTS_PER_FILE", "_BYTES_PER_FILE"])
def test_many_rejects_go_to_several_files_and_all_are_named(
    index: Index, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(module, limit, {"_REJECTS_PER_FILE": 2, "_BYTES_PER_FILE": 200}[limit])
    done = index(FakeS3(text([b"2 x y"] * 5)))
    assert found(dead_letters) == [("row", "wrong-number-of-values", row) for row in range(5)]
    assert sorted({file for file, _ in dead_letters.read()}) == list(done.dead_letters)
    assert len(done.dead_letters) == 3


def test_past_a_number_bad_rows_are_counted_and_named_together(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REJECTS_PER_OBJECT", 3)
    elasticsearch.item_fault = lambda _, document: (400, "refused") if document["log"]["offset"] > 20 else None
    rows = lines(30)
    rows[:10] = [b"2 x y"] * 10

    done = index(FakeS3(text(rows)))

    assert (done.written, done.rejected) == (11, 19)
    assert_counted(done, elasticsearch)
    kept = [("row", "wrong-number-of-values", number) for number in range(3)]
    refused = [("document", "refused", number) for number in (21, 22, 23)]
    assert found(dead_letters) == sorted(
        [*kept, *refused, ("row", "too-many-bad-rows", -1), ("document", "too-many-bad-documents", -1)]
    )
    details = [reject.detail for _, reject in dead_letters.read() if reject.row == -1]
    assert [REF.url in detail for detail in details] == [True, True]
    assert sorted(detail.split()[1] for detail in details) == ["6", "7"]


def test_an_object_of_more_roll_ups_than_it_may_have_ends_there_and_counts_what_was_sent(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters
) -> None:
    rows = [
        line.replace(b"eni-0000000%d" % (at % 7), b"eni-%d" % (at // 10_000)) for at, line in enumerate(lines(50_000))
    ]
    done = index(FakeS3(text(rows)), limits=Limits(piece_bytes=1 << 20, rollups=3))

    assert done.reason == "too-many-roll-ups"
    assert 10_000 <= done.written <= 30_000
    assert_counted(done, elasticsearch)
    ((_, reject),) = dead_letters.read()
    assert "--max-rollups" in reject.detail
    assert f"{done.written} of its rows are indexed" in reject.detail
    assert index(FakeS3(text(rows)), limits=Limits(rollups=5)).reason == ""


def test_a_roll_up_whose_documents_are_all_refused_has_no_part(index: Index, elasticsearch: FakeElasticsearch) -> None:
    elasticsearch.item_fault = lambda _, document: (400, "refused") if document["log"]["offset"] % 7 == 3 else None
    done = index(FakeS3(text(lines(700))))
    assert sorted(key.key for key, _ in done.parts) == [f"eni-{number:08}" for number in (0, 1, 2, 4, 5, 6)]
    assert_counted(done, elasticsearch)


def test_a_truncated_object_counts_what_could_be_read(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters
) -> None:
    done = index(FakeS3(gzip.compress(text(lines(50_000)), 1)[:-200]))
    assert done.reason == "gzip-truncated"
    assert 0 < done.written < 50_000
    assert_counted(done, elasticsearch)
    assert found(dead_letters) == [("object", "gzip-truncated", -1)]
    assert done.dead_letters == tuple(file for file, _ in dead_letters.read())


class Overwritten(FakeS3):
    """An object that is another one when its stream is resumed."""

    def get_object(self, **request: Any) -> dict[str, Any]:
        if "Range" in request:
            self.etag = '"e2"'
        return super().get_object(**request)


@pytest.mark.parametrize(
    ("s3", "reason"),
    [
        pytest.param(Overwritten, "object-changed", id="overwritten"),
        pytest.param(lambda content, troubles: FakeS3(content, [*troubles, s3_error("NoSuchKey", 404)]),
                     "object-missing", id="deleted"),
        pytest.param(lambda content, troubles: FakeS3(content, [*troubles, s3_error("AccessDenied", 403)]),
                     "access-denied", id="forbidden"),
    ],
)  # fmt: skip
def test_an_object_that_is_lost_midway_counts_the_rows_that_can_be_found(
    s3: Callable[[bytes, list[Any]], FakeS3],
    reason: str,
    index: Index,
    elasticsearch: FakeElasticsearch,
    dead_letters: DeadLetters,
) -> None:
    content = text(lines(50_000))
    done = index(s3(content, [len(content) // 2]), limits=Limits(piece_bytes=1 << 20))
    assert done.reason == reason
    assert 0 < done.written < 50_000
    assert_counted(done, elasticsearch)
    ((file, reject),) = dead_letters.read()
    assert (reject.stage, reject.reason, reject.etag) == ("object", reason, "e1")
    assert REF.url in reject.detail
    assert done.dead_letters == (file,)


@pytest.mark.parametrize("loss", ["deleted", "overwritten", "overwritten midway", "deleted midway"])
def test_what_a_dead_worker_had_indexed_of_an_object_that_is_lost_since_is_counted_from_the_index(
    loss: str, index: Index, elasticsearch: FakeElasticsearch
) -> None:
    content = text(lines(50_000))
    elasticsearch.answers.extend([*[None] * 30, *[error(503, "unavailable")] * 50])
    with pytest.raises(BulkGaveUp):  # its parts die with it
        index(FakeS3(content))
    elasticsearch.answers.clear()
    before = 0
    while before != (before := len(elasticsearch.documents)):  # what was on the wire arrives
        time.sleep(0.5)
    assert 10_000 < before < 50_000

    early = [len(content) // 10]
    s3 = {
        "deleted": FakeS3(troubles=[s3_error("NoSuchKey", 404)]),
        "overwritten": FakeS3(text(lines(100))),
        "overwritten midway": Overwritten(content, early),
        "deleted midway": FakeS3(content, [*early, s3_error("NoSuchKey", 404)]),
    }[loss]
    if loss == "overwritten":
        s3.etag = '"e2"'
    done = index(s3)

    assert done.duplicates < before
    assert_counted(done, elasticsearch)
    assert (len(elasticsearch.documents) == before) == (loss != "overwritten")


def test_parts_from_the_index_are_those_from_the_object(index: Index, elasticsearch: FakeElasticsearch) -> None:
    rows = lines(3000)
    rows[5] = b"2 123456789012 eni-00000005 - - - - - - - 1764000000 1764000059 - NODATA"
    read = index(FakeS3(text(rows)), rollup_details=True)

    found = index(FakeS3(troubles=[s3_error("NoSuchKey", 404)]), rollup_details=True)

    assert sorted(found.parts) == sorted(read.parts)


def test_an_object_that_cannot_be_opened_is_kept_under_the_name_that_it_was_announced_by(
    index: Index, dead_letters: DeadLetters
) -> None:
    done = index(FakeS3(troubles=[s3_error("NoSuchKey", 404)]), ref=REF._replace(etag="hearsay"))
    assert (done.reason, done.written, list(done.parts)) == ("object-missing", 0, [])
    ((file, reject),) = dead_letters.read()
    assert (reject.etag, done.dead_letters) == ("hearsay", (file,))


def test_when_elasticsearch_stays_away_nothing_is_said_to_be_done(
    index: Index, elasticsearch: FakeElasticsearch, dead_letters: DeadLetters
) -> None:
    elasticsearch.answers.extend([None, *[error(503, "unavailable")] * 50])
    with pytest.raises(BulkGaveUp):
        index(FakeS3(text(lines(3000))))
    assert found(dead_letters) == []
