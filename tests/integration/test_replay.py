"""Dead letters put through again on real servers: at every moment, what is counted is what can be found."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from elasticsearch import Elasticsearch

from beam_flowlogs import index_object as index_object_module
from beam_flowlogs.bulk import BulkConfig, BulkWriter
from beam_flowlogs.config import JobConfig
from beam_flowlogs.elastic.connection import ElasticsearchConfig
from beam_flowlogs.elastic.verify import verify
from beam_flowlogs.fields import DEFAULT_FORMAT
from beam_flowlogs.inflate import Limits
from beam_flowlogs.local.aws import AwsEmulator
from beam_flowlogs.local.elasticsearch import ElasticsearchServer
from beam_flowlogs.outcome import Outcome
from beam_flowlogs.reject import DeadLetters, Reject, Selection, message_file
from beam_flowlogs.replay import plan
from beam_flowlogs.replay import replay as replay_one
from beam_flowlogs.rollup_store import RollUpStore
from beam_flowlogs.run import backfill
from beam_flowlogs.run import replay as run_replay
from beam_flowlogs.s3_client import CONFIG
from beam_flowlogs.s3_object import ObjectRef
from tests.integration.fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.integration

HEADER = " ".join(DEFAULT_FORMAT).encode()
DAY = "2025.11.24"  # of the rows below
BULK = BulkConfig(max_actions=500, first_delay=0.05, longest_delay=0.5, retry_for=20)


def row(number: int, more: bytes = b"") -> bytes:
    return (
        b"2 123456789012 eni-%08d 10.0.0.1 10.0.0.2 %d 443 6 10 %d 1764000000 %d ACCEPT OK"
        % (number % 3, number % 60_000, 100 + number, 1764000000 + number % 90)
        + more
    )


def text(rows: list[bytes], header: bytes = HEADER) -> bytes:
    return b"\n".join([header, *rows, b""])


def with_unknown_fields(known: int, unknown: int) -> bytes:
    """Rows of which the last ``unknown`` ones log a field each that no flow log has yet."""
    names = [b"new-field-%d" % number for number in range(unknown)]
    empty = [b"-"] * unknown
    rows = [row(number, b"".join(b" " + value for value in empty)) for number in range(known)]
    for number in range(unknown):
        values = [*empty[:number], b"x", *empty[number + 1 :]]
        rows.append(row(known + number, b"".join(b" " + value for value in values)))
    return text(rows, b" ".join([HEADER, *names]))


class Lab:
    """A bucket, dead letters, and Elasticsearch."""

    def __init__(self, client: Elasticsearch, url: str, dead_letters: str, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=bucket)
        self.config = JobConfig(
            ElasticsearchConfig(urls=(url,)), dead_letters, (bucket,), retry_for=20, bulk=BULK,
        )  # fmt: skip

    @property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.config.dead_letters)

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def index(self, **changes: Any) -> Outcome:
        return backfill(replace(self.config, **changes), [f"s3://{self.bucket}/logs/"], [])

    def replay(self, selection: Selection = Selection(), **changes: Any) -> Outcome:  # noqa: B008  (immutable)
        return run_replay(replace(self.config, **changes), selection, [])

    def rejects(self, folder: str = "") -> list[tuple[str, str, int]]:
        letters = DeadLetters(f"{self.config.dead_letters}{folder}")
        return sorted((reject.stage, reject.reason, reject.row) for _, reject in letters.read())

    def documents(self) -> int:
        """How many raw documents there are; the roll-ups are proved to be their sums."""
        proof = verify(self.client, 60)
        assert proof.differences == []
        return proof.documents


@pytest.fixture
def lab(aws: AwsEmulator, cluster: Elasticsearch, elasticsearch: ElasticsearchServer, tmp_path: Path) -> Lab:
    return Lab(cluster, elasticsearch.url, str(tmp_path / "dead-letters"), f"flowlogs-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def lab_in_s3(aws: AwsEmulator, cluster: Elasticsearch, elasticsearch: ElasticsearchServer) -> Lab:
    bucket = f"flowlogs-{uuid.uuid4().hex[:12]}"
    return Lab(cluster, elasticsearch.url, f"s3://{bucket}/dead/letters", bucket)


def refuse_unknown_fields(client: Elasticsearch) -> None:
    """Make the day's index refuse documents with a field that it does not know."""
    properties = {"aws": {"properties": {"vpcflow": {"type": "object", "dynamic": "strict"}}}}
    client.indices.create(index=f"flowlogs-raw-{DAY}", mappings={"properties": properties})


def allow_new_fields(client: Elasticsearch, count: int) -> None:
    """Make the first new fields known."""
    fields = {f"new_field_{number}": {"type": "keyword"} for number in range(count)}
    properties = {"aws": {"properties": {"vpcflow": {"type": "object", "dynamic": "strict", "properties": fields}}}}
    client.indices.put_mapping(index=f"flowlogs-raw-{DAY}", properties=properties)


def refuse_roll_ups(client: Elasticsearch) -> None:
    """Make the month's index refuse every roll-up: what its event.kind says is no number."""
    properties = {"event": {"properties": {"kind": {"type": "long"}}}}
    client.indices.create(index="flowlogs-rollup-2025.11", mappings={"properties": properties})


@pytest.mark.parametrize("where", ["lab", "lab_in_s3"])
def test_rejected_documents_go_through_once_the_cause_is_mended(where: str, request: pytest.FixtureRequest) -> None:
    lab: Lab = request.getfixturevalue(where)
    refuse_unknown_fields(lab.client)
    lab.put("logs/a.log", with_unknown_fields(1000, 2))
    assert lab.index().rejects == 2
    assert [(stage, number) for stage, _, number in lab.rejects()] == [("document", 1000), ("document", 1001)]
    assert lab.documents() == 1000

    still = lab.replay()

    assert (still.dead_letters_replayed, still.dead_letters_kept) == (0, 1)
    assert len(lab.rejects()) == 2
    assert lab.documents() == 1000

    allow_new_fields(lab.client, 2)
    mended = lab.replay()

    assert (mended.documents, mended.duplicates, mended.rejects) == (2, 1000, 0)
    assert (mended.dead_letters_replayed, mended.dead_letters_kept) == (1, 0)
    assert lab.rejects() == []
    assert len(lab.rejects("/replayed")) == 2
    assert lab.documents() == 1002

    assert lab.replay() == Outcome()


def test_what_is_rejected_again_stays_and_what_went_through_beside_it_does_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_object_module, "_REJECTS_PER_FILE", 2)
    refuse_unknown_fields(lab.client)
    lab.put("logs/a.log", with_unknown_fields(10, 5))
    lab.index()
    assert len({file for file, _ in lab.dead_letters.read()}) == 3

    allow_new_fields(lab.client, 3)
    summary = lab.replay()

    assert (summary.documents, summary.rejects) == (3, 2)
    assert (summary.dead_letters_replayed, summary.dead_letters_kept) == (2, 1)
    assert [(stage, number) for stage, _, number in lab.rejects()] == [("document", 13), ("document", 14)]
    assert lab.documents() == 13


def test_an_object_past_a_limit_goes_through_under_a_higher_one(lab: Lab) -> None:
    lab.put("logs/a.log.gz", gzip.compress(text([row(number) for number in range(30_000)]), 1))
    first = lab.index(limits=Limits(plain_bytes=2_000_000))
    assert first.objects_rejected == 1
    assert 0 < first.documents < 30_000
    assert lab.documents() == first.documents

    summary = lab.replay()

    assert (summary.documents, summary.duplicates) == (30_000 - first.documents, first.documents)
    assert summary.dead_letters_replayed == 1
    assert lab.rejects() == []
    assert lab.documents() == 30_000


def test_a_missing_object_waits_in_the_dead_letters_until_it_is_restored(lab: Lab) -> None:
    lab.put("logs/a.log", text([row(1)]))
    ref = ObjectRef(lab.bucket, "logs/a.log", etag="announced")
    lab.dead_letters.write("object/undated/a", [Reject("object", "object-missing", "gone", *ref[:4])])
    lab.s3.delete_object(Bucket=lab.bucket, Key="logs/a.log")

    lab.replay()
    assert lab.rejects() == [("object", "object-missing", -1)]
    lab.replay()
    assert lab.rejects() == [("object", "object-missing", -1)]

    lab.put("logs/a.log", text([row(1)]))
    assert lab.replay().dead_letters_kept == 0
    assert lab.rejects() == []
    assert lab.documents() == 1


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "overwritten"])
def test_rows_of_an_object_that_is_no_more_stay_with_their_bytes(lab: Lab, gone: bool) -> None:
    lab.put("logs/a.log", text([row(0), b"2 x y", row(2)]))
    lab.index()
    if gone:
        lab.s3.delete_object(Bucket=lab.bucket, Key="logs/a.log")
    else:
        lab.put("logs/a.log", text([row(7)]))

    for _ in range(2):
        assert lab.replay().dead_letters_kept >= 1
        assert ("row", "wrong-number-of-values", 1) in lab.rejects()
    assert lab.rejects("/replayed") == []
    assert lab.documents() == (2 if gone else 3)


def test_a_bad_row_is_read_again_and_stays_if_it_is_bad_still(lab: Lab) -> None:
    lab.put("logs/a.log", text([row(0), b"2 x y"]))
    lab.index()
    assert lab.replay().dead_letters_kept == 1
    assert lab.rejects() == [("row", "wrong-number-of-values", 1)]
    assert lab.documents() == 1


def test_messages_go_through_once_their_bucket_is_allowed_and_nonsense_stays(lab: Lab) -> None:
    lab.put("logs/a.log", text([row(0)]))
    s3 = {"bucket": {"name": lab.bucket}, "object": {"key": "logs/a.log"}}
    event = {"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": s3}
    body = json.dumps({"Records": [event]})
    forbidden = Reject("notification", "bucket-not-allowed", "", lab.bucket, "logs/a.log", data=body.encode())
    lab.dead_letters.write(message_file(body), [forbidden])
    lab.dead_letters.write(message_file("?"), [Reject("notification", "not-json", "", data=b"?")])
    understood_now = body.replace("ObjectCreated:Put", "ObjectCreated:Post")
    lab.dead_letters.write(
        message_file(understood_now), [Reject("notification", "unknown-version", "", data=understood_now.encode())]
    )

    lab.replay(buckets=("another",))
    assert len(lab.rejects()) == 3

    summary = lab.replay()
    assert (summary.dead_letters_replayed, summary.dead_letters_kept) == (2, 1)
    assert lab.rejects() == [("notification", "not-json", -1)]
    assert lab.documents() == 1


def test_only_what_is_selected_is_put_through(lab: Lab) -> None:
    lab.dead_letters.write(message_file("?"), [Reject("notification", "not-json", "", data=b"?")])
    for key in ("a", "b"):
        lab.put(f"logs/{key}.log", text([row(0)]))
        reject = Reject("object", f"reason-{key}", "", lab.bucket, f"logs/{key}.log")
        lab.dead_letters.write(f"object/{key}", [reject])

    assert lab.replay(Selection(reason="reason-a")).objects == 1
    assert lab.rejects() == [("notification", "not-json", -1), ("object", "reason-b", -1)]
    assert lab.replay(Selection(stage="object")).objects == 1
    assert lab.rejects() == [("notification", "not-json", -1)]


def test_refused_roll_ups_are_merged_again_from_their_parts(lab: Lab) -> None:
    refuse_roll_ups(lab.client)
    lab.put("logs/a.log", text([row(number) for number in range(300)]))
    refused = lab.index().rollups_rejected
    assert refused > 1
    lab.replay()
    assert {stage for stage, _, _ in lab.rejects()} == {"rollup"}

    lab.client.indices.delete(index="flowlogs-rollup-2025.11")  # made anew from the template
    lab.put("logs/b.log", text([row(number) for number in range(100)]))
    backfill(lab.config, [f"s3://{lab.bucket}/logs/b.log"], [])
    summary = lab.replay()

    assert summary.dead_letters_kept == 0
    assert lab.rejects() == []
    assert lab.documents() == 400


def test_a_roll_up_that_was_refused_twice_loses_neither_objects_part(lab: Lab) -> None:
    refuse_roll_ups(lab.client)
    for key in ("a", "b"):
        lab.put(f"logs/{key}.log", text([row(0)]))
        lab.dead_letters.write(
            f"object/{key}", [Reject("object", "too-many-receives", "", lab.bucket, f"logs/{key}.log")]
        )
    lab.replay()
    assert [stage for stage, _, _ in lab.rejects()] == ["rollup", "rollup"]

    lab.client.indices.delete(index="flowlogs-rollup-2025.11")  # made anew from the template
    assert lab.replay().dead_letters_replayed == 2
    assert lab.documents() == 2


class Crash(Exception):  # noqa: N818
    """The worker dies."""


@pytest.mark.parametrize("point", ["merge", "settle", "settle the second"])
def test_a_crash_at_any_point_leaves_enough_to_do_it_again(
    lab: Lab, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_object_module, "_REJECTS_PER_FILE", 2)
    refuse_unknown_fields(lab.client)
    lab.put("logs/a.log", with_unknown_fields(10, 5))
    lab.index()
    allow_new_fields(lab.client, 3)

    survived = 0

    def dying(method: Callable[..., Any], after: int) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal survived
            if survived == after:
                raise Crash
            survived += 1
            return method(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        if point == "merge":
            patch.setattr(RollUpStore, "merge", dying(RollUpStore.merge, 0))
        else:
            patch.setattr(DeadLetters, "settle", dying(DeadLetters.settle, int(point != "settle")))
        with pytest.raises(Exception, match="Crash"):
            lab.replay()
    assert {("document", 13), ("document", 14)} <= {(stage, number) for stage, _, number in lab.rejects()}

    lab.replay()
    assert [(stage, number) for stage, _, number in lab.rejects()] == [("document", 13), ("document", 14)]
    assert lab.documents() == 13


def test_a_replay_that_elasticsearch_fails_keeps_the_dead_letters(lab: Lab, elasticsearch: ElasticsearchServer) -> None:
    lab.put("logs/a.log", text([row(number) for number in range(2000)]))
    lab.dead_letters.write("object/a", [Reject("object", "too-many-receives", "", lab.bucket, "logs/a.log")])
    target = urlsplit(elasticsearch.url)
    assert target.hostname
    assert target.port
    with FaultProxy(target.hostname, target.port) as proxy:
        proxy.fail(None, Fault(cut_after=0), *[Fault(status=503)] * 500, when=lambda found: "_bulk" in found.path)
        through_proxy = ElasticsearchConfig(urls=(proxy.url,))
        with pytest.raises(Exception, match="made no progress"):
            lab.replay(elasticsearch=through_proxy, bulk=replace(BULK, retry_for=0.5))
    assert lab.rejects() == [("object", "too-many-receives", -1)]

    lab.replay()
    assert lab.rejects() == []
    assert lab.documents() == 2000


@pytest.fixture
def proxy(aws: AwsEmulator) -> Iterator[FaultProxy]:
    target = urlsplit(aws.url)
    assert target.hostname
    assert target.port
    with FaultProxy(target.hostname, target.port) as proxy:
        yield proxy


@pytest.mark.parametrize("loss", ["overwritten", "deleted"])
def test_an_object_lost_midway_is_counted_as_far_as_it_can_be_found(lab: Lab, proxy: FaultProxy, loss: str) -> None:
    config = replace(lab.config, limits=Limits(piece_bytes=1 << 20))
    content = text([row(number) for number in range(50_000)])
    lab.put("logs/a.log", content)
    lab.dead_letters.write("object/a", [Reject("object", "too-many-receives", "", lab.bucket, "logs/a.log")])
    client: S3Client = boto3.session.Session().client(
        "s3", endpoint_url=proxy.url, config=CONFIG.merge(Config(read_timeout=5))
    )

    def lose(request: Any) -> bool:
        """Another writer comes just before the stream is resumed."""
        if "range" not in request.headers:
            return False
        if loss == "deleted":
            lab.s3.delete_object(Bucket=lab.bucket, Key="logs/a.log")
        else:
            lab.put("logs/a.log", text([row(number) for number in range(100, 200)]))
        return True

    proxy.fail(Fault(cut_after=len(content) // 2), when=lambda found: found.method == "GET")
    proxy.fail(None, when=lose)
    (task,) = plan(lab.dead_letters.read(), config, Selection())
    writer = BulkWriter(lambda: lab.client, BULK)
    store = RollUpStore(lambda: lab.client, writer)
    done = replay_one(task, config, client, writer, store, lab.dead_letters)

    assert proxy.planned == 0
    assert 0 < done.counts["documents"] < 50_000
    assert [stage for stage, _, _ in lab.rejects()] == ["object"]
    assert lab.documents() == done.counts["documents"]

    lab.replay()
    if loss == "deleted":
        assert lab.rejects() == [("object", "object-missing", -1)]
        lab.put("logs/a.log", content)
        lab.replay()
        assert lab.documents() == 50_000
    else:
        assert lab.documents() == done.counts["documents"] + 100
    assert lab.rejects() == []


def test_an_attempt_that_sees_less_of_an_object_takes_nothing_away(lab: Lab) -> None:
    lab.put("logs/a.log.gz", gzip.compress(text([row(number) for number in range(30_000)]), 1))
    assert lab.index().documents == 30_000

    assert lab.index(limits=Limits(plain_bytes=2_000_000)).objects_rejected == 1

    assert lab.documents() == 30_000
