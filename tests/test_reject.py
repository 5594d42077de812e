"""Dead letters in a folder: what goes in comes out, whole or not at all."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from beam_flowlogs.reject import (
    SCHEMA,
    DeadLetters,
    DeadLettersUnreadable,
    DeadLettersUnwritable,
    Reject,
    item_file,
    message_file,
    object_file,
)
from beam_flowlogs.s3_client import ObjectUnavailable
from beam_flowlogs.s3_object import ObjectRef

ROW = Reject(
    "row", "bad-number", "bytes is 'x'; fix it", "logs", "a key", "v1", "e1", 7, b"2 1 eni- x", 1_700_000_000_123
)
NAME = "123456789012_vpcflowlogs_eu-west-1_fl-0a1b2c3d4e5f67890_20240131T2355Z_2f1c7a8b.log.gz"

rejects = st.builds(
    Reject,
    *[st.text(st.characters(codec="utf-8"))] * 7,
    row=st.integers(-(2**63), 2**63 - 1),
    data=st.binary(),
    first_seen=st.integers(1, 253_402_300_799_999),
)


def test_a_reject_comes_back_as_it_was(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    written = letters.write("row/2024/01/31/x", [ROW, ROW._replace(row=8)])
    assert written == str(tmp_path / "row/2024/01/31/x.avro")
    assert list(letters.read()) == [(written, ROW), (written, ROW._replace(row=8))]


@given(st.lists(rejects, min_size=1, max_size=5))
def test_any_reject_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, found: list[Reject]) -> None:
    letters = DeadLetters(str(tmp_path_factory.mktemp("letters")))
    letters.write("x", found)
    assert [reject for _, reject in letters.read()] == found


def test_the_time_of_the_run_is_filled_in(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), clock=lambda: 1_700_000_000.5)
    letters.write("x", [ROW._replace(first_seen=0)])
    assert [reject.first_seen for _, reject in letters.read()] == [1_700_000_000_500]


def test_a_retry_overwrites(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    assert letters.write("x", [ROW, ROW]) == letters.write("x", [ROW])
    assert len(list(letters.read())) == 1


def test_without_rejects_there_is_no_file(tmp_path: Path) -> None:
    assert DeadLetters(str(tmp_path)).write("x", []) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_midway_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    letters.write("x", [ROW])

    def failing() -> Iterator[Reject]:
        yield ROW._replace(row=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        letters.write("x", failing())
    assert [path.name for path in tmp_path.iterdir()] == ["x.avro"]
    assert [reject.row for _, reject in letters.read()] == [7]


def test_a_file_that_can_not_be_put_in_place_leaves_no_other(tmp_path: Path) -> None:
    (tmp_path / "x.avro").mkdir()
    with pytest.raises(OSError, match=r"x\.avro"):
        DeadLetters(str(tmp_path)).write("x", [ROW])
    assert [path.name for path in tmp_path.iterdir()] == ["x.avro"]


def test_text_without_utf8_is_kept_readable(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    letters.write("x", [ROW._replace(detail="found \ud800")])
    assert [reject.detail for _, reject in letters.read()] == ["found \\ud800"]


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    for name in ("b/x", "a/y", "a/x"):
        letters.write(name, [ROW])
    assert [name for name, _ in letters.read()] == [str(tmp_path / f"{name}.avro") for name in ("a/x", "a/y", "b/x")]


def test_a_missing_folder_holds_no_dead_letters(tmp_path: Path) -> None:
    assert list(DeadLetters(str(tmp_path / "none")).read()) == []


def test_what_is_settled_is_read_no_more_and_kept_under_replayed(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    settled = letters.write("row/2024/01/31/x", [ROW])
    kept = letters.write("row/2024/01/31/y", [ROW])
    letters.settle(settled)
    assert [file for file, _ in letters.read()] == [kept]
    assert [reject for _, reject in DeadLetters(str(tmp_path / "replayed")).read()] == [ROW]
    assert (tmp_path / "replayed/row/2024/01/31/x.avro").is_file()


def test_settling_again_is_no_error_and_loses_nothing(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    file = letters.write("x", [ROW])
    letters.settle(file)
    letters.settle(file)
    letters.write("x", [ROW._replace(row=8)])
    letters.settle(file)
    assert [reject.row for _, reject in DeadLetters(str(tmp_path / "replayed")).read()] == [8]


def test_a_file_that_is_settled_while_others_are_read_is_passed_over(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path))
    first, second, third = (letters.write(name, [ROW]) for name in "abc")
    reading = letters.read()
    assert next(reading)[0] == first
    letters.settle(second)
    assert [file for file, _ in reading] == [third]


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a//x", "./x", "a\0b", "a/"])
def test_a_name_that_leaves_the_location_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="give a relative path"):
        DeadLetters(str(tmp_path)).write(name, [ROW])


@pytest.mark.parametrize("location", ["", "s3://", "https://logs/x"])
def test_a_location_that_is_none_is_refused(location: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        DeadLetters(location)


@pytest.mark.parametrize("location", ["folder", "s3://logs/dead"])
def test_dead_letters_can_be_sent_to_workers(location: str) -> None:
    pickle.loads(pickle.dumps(DeadLetters(location)))


def whole_file(tmp_path: Path) -> bytes:
    written = DeadLetters(str(tmp_path)).write("x", [ROW._replace(row=row) for row in range(50)])
    return Path(written).read_bytes()


@pytest.mark.parametrize("broken", [b"", b"Obj", b"Obj\x01", b"not avro at all", b"\0" * 1000])
def test_a_file_that_is_not_avro_is_named(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "x.avro").write_bytes(broken)
    with pytest.raises(DeadLettersUnreadable, match=r"x\.avro is not a whole Avro file"):
        list(DeadLetters(str(tmp_path)).read())


@given(st.data())
def test_a_damaged_file_raises_nothing_but_its_own_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("letters")
    damaged = bytearray(whole_file(folder))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    (folder / "x.avro").write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        list(DeadLetters(str(folder)).read())
    except DeadLettersUnreadable as error:
        assert "x.avro" in str(error)  # noqa: PT017  (a damaged byte need not show, so nothing may be raised too)


def test_foreign_avro_is_named(tmp_path: Path) -> None:
    schema = {"type": "record", "name": "Other", "fields": [{"name": "stage", "type": "long"}]}
    with (tmp_path / "x.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [{"stage": 1}])
    with pytest.raises(DeadLettersUnreadable, match=r"x\.avro"):
        list(DeadLetters(str(tmp_path)).read())


def test_a_newer_schema_version_is_not_misread(tmp_path: Path) -> None:
    with (tmp_path / "x.avro").open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(SCHEMA), [], metadata={"beam_flowlogs.schema_version": "2"})
    with pytest.raises(DeadLettersUnreadable, match="schema version 2"):
        list(DeadLetters(str(tmp_path)).read())


def test_a_file_with_fewer_and_more_fields_stays_readable(tmp_path: Path) -> None:
    fields = [*SCHEMA["fields"][:3], {"name": "added_later", "type": "string"}]
    with (tmp_path / "x.avro").open("wb") as file:
        record = {"stage": "object", "reason": "object-missing", "detail": "d", "added_later": "x"}
        fastavro.writer(file, fastavro.parse_schema(SCHEMA | {"fields": fields}), [record])
    assert [reject for _, reject in DeadLetters(str(tmp_path)).read()] == [Reject("object", "object-missing", "d")]


def test_the_schema_has_the_fields_of_a_reject_and_explains_each() -> None:
    assert tuple(field["name"] for field in SCHEMA["fields"]) == Reject._fields
    assert all(field["doc"] for field in SCHEMA["fields"])


def test_an_objects_file_is_found_by_stage_and_day() -> None:
    ref = ObjectRef("logs", f"p/{NAME}", etag="e1")
    assert object_file("row", ref).startswith(f"row/2024/01/31/{NAME}-")
    assert object_file("row", ref) == object_file("row", ref)


def test_files_of_different_objects_differ() -> None:
    refs = [ObjectRef("logs", key, etag=etag) for key in (NAME, f"a/{NAME}", f"b/{NAME}") for etag in ("1", "2")]
    assert len({object_file("row", ref) for ref in refs}) == len(refs)


@given(st.text(min_size=1, max_size=300))
def test_any_key_gives_a_file_that_can_be_written(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    letters = DeadLetters(str(tmp_path_factory.mktemp("letters")))
    assert letters.write(object_file("object", ObjectRef("logs", key)), [ROW])


def test_the_longest_key_gives_a_file_that_can_be_written(tmp_path: Path) -> None:
    name = object_file("object", ObjectRef("logs", "k" * 1024))
    assert DeadLetters(str(tmp_path)).write(name, [ROW])


@given(st.text())
def test_any_message_gives_a_file_that_can_be_written(body: str) -> None:
    assert message_file(body) == message_file(body)
    assert message_file(body) != message_file(body + "x")


@pytest.mark.parametrize("key", ["eni-1", "../../etc/x", "arn:aws:ec2:eu-west-1:1:nat/" + "n" * 2000, "\ud800", "a\0b"])
def test_any_roll_up_gives_a_file_that_can_be_written(tmp_path: Path, key: str) -> None:
    name = item_file("rollup", f"60s-1764000000-{key}", b"item")
    assert Path(DeadLetters(str(tmp_path)).write(name, [ROW])).parent == tmp_path / "rollup"


def test_a_roll_up_refused_with_other_parts_does_not_overwrite_the_first() -> None:
    assert item_file("rollup", "60s-0-eni-1", b"parts of a") != item_file("rollup", "60s-0-eni-1", b"parts of b")
    assert item_file("rollup", "60s-0-eni-1", b"parts of a") == item_file("rollup", "60s-0-eni-1", b"parts of a")


def test_many_rejects_are_written_without_being_held(tmp_path: Path) -> None:
    alive = 0
    most = 0

    class Counted(bytes):
        def __new__(cls, content: bytes) -> Counted:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, content)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    letters = DeadLetters(str(tmp_path))
    letters.write("x", (ROW._replace(data=Counted(b"x" * 1000)) for _ in range(2000)))
    assert most < 10
    assert sum(1 for _ in letters.read()) == 2000


def test_any_avro_reader_understands_the_files(tmp_path: Path) -> None:
    reader = fastavro.reader(io.BytesIO(whole_file(tmp_path)))
    assert reader.codec == "deflate"
    assert reader.metadata["beam_flowlogs.schema_version"] == "1"
    assert sum(1 for _ in reader) == 50


@pytest.mark.parametrize("prefix", ["", "/dead/letters", "/dead/letters/"])
def test_dead_letters_know_their_own_files_in_a_bucket(prefix: str) -> None:
    letters = DeadLetters(f"s3://logs{prefix}")
    below = prefix.strip("/") + "/" if prefix else ""
    for key in ("row/2024/01/31/x.avro", "notification/ab.avro", "replayed/object/undated/y.avro", ".writable"):
        assert letters.holds(ObjectRef("logs", below + key))
        assert not letters.holds(ObjectRef("other", below + key))
    for key in (f"AWSLogs/{NAME}", "row/2024/01/31/x.log.gz", "x.avro", "rows/x.avro"):
        assert not letters.holds(ObjectRef("logs", below + key))
    if prefix:
        assert not letters.holds(ObjectRef("logs", "row/2024/01/31/x.avro"))


def test_dead_letters_in_a_folder_are_no_objects(tmp_path: Path) -> None:
    assert not DeadLetters(str(tmp_path)).holds(ObjectRef("", "row/2024/01/31/x.avro"))


def test_what_has_become_durable_is_told_by_stage_reason_and_bucket(tmp_path: Path) -> None:
    told: list[tuple[Reject, int]] = []
    letters = DeadLetters(str(tmp_path), tell=lambda example, count: told.append((example, count)))
    letters.write("x", [ROW, ROW._replace(row=8), ROW._replace(bucket="other"), ROW._replace(reason="too-long")])
    assert told == [(ROW, 2), (ROW._replace(bucket="other"), 1), (ROW._replace(reason="too-long"), 1)]


def test_what_could_not_be_written_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[tuple[Reject, int]] = []
    with pytest.raises(OSError, match="file"):
        DeadLetters(str(tmp_path / "file"), tell=lambda example, count: told.append((example, count))).write("x", [ROW])
    assert told == []


def test_a_folder_that_can_be_made_passes_the_check_and_is_not_made(tmp_path: Path) -> None:
    DeadLetters(str(tmp_path / "a" / "b")).check()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeadLettersUnwritable, match=r"file/x .*give another place with --dead-letter"):
        DeadLetters(str(tmp_path / "file" / "x")).check()


class Bucket:
    """An S3 client that takes objects, or refuses them."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self._refusal = refusal

    def put_object(self, *, Bucket: str, Key: str, Body: Any, ContentType: str) -> None:  # noqa: N803
        if self._refusal:
            raise self._refusal
        self.objects[f"{Bucket}/{Key}"] = Body.read()


def test_a_bucket_shows_that_it_takes_dead_letters(tmp_path: Path) -> None:
    bucket: Any = Bucket()
    letters = DeadLetters("s3://logs/dead", client=lambda: bucket)
    letters.check()
    assert bucket.objects == {"logs/dead/.writable": b""}
    assert letters.holds(ObjectRef("logs", "dead/.writable"))


def test_a_bucket_that_refuses_dead_letters_is_named_with_the_right_that_is_needed(tmp_path: Path) -> None:
    answer: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    bucket: Any = Bucket(ClientError(answer, "PutObject"))
    with pytest.raises(DeadLettersUnwritable, match=r"s3://logs/dead.*s3:PutObject"):
        DeadLetters("s3://logs/dead", client=lambda: bucket).check()


def test_a_bucket_out_of_reach_is_waited_for_as_long_as_stated() -> None:
    answer: Any = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    bucket: Any = Bucket(ClientError(answer, "PutObject"))
    letters = DeadLetters("s3://logs/dead", client=lambda: bucket, retry_for=0.1)
    with pytest.raises(ObjectUnavailable, match="SlowDown"):
        letters.write("row/a", [Reject("row", "not-a-number", "")])
