"""Inflating: gzip, zstd or neither, whole or broken, and never more than an object may cost."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_flowlogs.inflate import GZIP_MAGIC, ZSTD_MAGIC, DecodeError, Limits, check_size, inflate, peek

TEXT = b"".join(b"%d some words\n" % at for at in range(5000))
GZIP = gzip.compress(TEXT)


def _zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def _fault(chunks: Iterable[bytes], limits: Limits | None = None) -> tuple[bytes, str]:
    """Return what came before the fault, and its reason."""
    seen: list[bytes] = []
    try:
        seen.extend(inflate(iter(chunks), limits or Limits()))
    except DecodeError as error:
        return b"".join(seen), error.reason
    raise AssertionError("no fault")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zstd], ids=["plain", "gzip", "zstd"])
@settings(max_examples=50)
@given(
    data=st.lists(st.binary(max_size=300), min_size=1, max_size=5), size=st.integers(1, 200), piece=st.integers(1, 99)
)
def test_what_was_packed_comes_back_in_pieces_of_bounded_size(
    pack: Any, data: list[bytes], size: int, piece: int
) -> None:
    packed = b"".join(map(pack, data))
    expected = packed if pack is bytes else b"".join(data)
    if pack is bytes and packed.startswith((GZIP_MAGIC, ZSTD_MAGIC)):
        return
    pieces = list(inflate(_cut(packed, size), Limits(piece_bytes=piece)))

    assert b"".join(pieces) == expected
    assert all(0 < len(found) <= piece for found in pieces)


@pytest.mark.parametrize("cut", [2, 3, 9, 10, 11, len(GZIP) // 2, len(GZIP) - 9, len(GZIP) - 8, len(GZIP) - 1])
def test_a_gzip_that_ends_early_is_truncated(cut: int) -> None:
    seen, reason = _fault([GZIP[:cut]])

    assert reason == "gzip-truncated"
    assert TEXT.startswith(seen)


def test_a_member_that_ends_early_after_a_whole_one_is_truncated() -> None:
    seen, reason = _fault([GZIP + GZIP[:20]])

    assert reason == "gzip-truncated"
    assert seen.startswith(TEXT)


@pytest.mark.parametrize("at", [2, 3, len(GZIP) // 2, len(GZIP) - 8, len(GZIP) - 4])
def test_a_changed_byte_of_a_gzip_is_found(at: int) -> None:
    damaged = bytearray(GZIP)
    damaged[at] ^= 0xFF

    assert _fault([bytes(damaged)])[1] in ("gzip-corrupt", "gzip-truncated")


@pytest.mark.parametrize("tail", [b"x", b"garbage of more than ten bytes", b"\0\0x"])
def test_other_data_after_a_gzip_is_no_part_of_it(tail: bytes) -> None:
    assert _fault([GZIP + tail]) == (TEXT, "gzip-corrupt")


def test_zeros_may_follow_and_part_members() -> None:
    padded = GZIP + b"\0" * 600 + GZIP + b"\0" * 3

    assert b"".join(inflate(_cut(padded, 100), Limits())) == TEXT * 2


@pytest.mark.parametrize("change", ["cut", "no block", "garbage", "half a frame"])
def test_a_damaged_zstd_is_found(change: str) -> None:
    packed = _zstd(TEXT)
    data = {
        "cut": packed[:-3],
        "no block": packed[:4] + b"\xff" * 30,
        "garbage": packed + b"garbage",
        "half a frame": packed + packed[:9],
    }[change]

    assert _fault([data])[1] == "zstd-corrupt"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zstd], ids=["plain", "gzip", "zstd"])
def test_what_the_source_raises_comes_through_as_it_is(pack: Any) -> None:
    class SourceError(Exception):
        pass

    def source() -> Iterator[bytes]:
        yield pack(TEXT)[:100]
        raise SourceError

    with pytest.raises(SourceError):
        list(inflate(source(), Limits()))


@pytest.mark.parametrize("pack", [gzip.compress, _zstd], ids=["gzip", "zstd"])
def test_a_bomb_is_stopped_by_its_ratio_before_it_has_gone_off(pack: Any) -> None:
    bomb = pack(b"\0" * (100 << 20))
    seen, reason = _fault([bomb])

    assert reason == "ratio-too-high"
    assert len(seen) <= 64 << 20


def test_a_bomb_of_many_members_is_stopped_too() -> None:
    assert _fault([gzip.compress(b"\0" * (1 << 20))] * 100)[1] == "ratio-too-high"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zstd], ids=["plain", "gzip", "zstd"])
def test_an_object_larger_than_allowed_is_stopped(pack: Any) -> None:
    seen, reason = _fault([pack(TEXT)], Limits(plain_bytes=1000, piece_bytes=100))

    assert reason == "too-large"
    assert len(seen) <= 1000


def test_a_small_file_may_pack_as_well_as_it_likes() -> None:
    check_size(64 << 20, 1, Limits())
    with pytest.raises(DecodeError, match="ratio-too-high"):
        check_size((64 << 20) + 1, 1, Limits())


def test_many_small_members_take_time_by_their_number_not_by_its_square() -> None:
    many = gzip.compress(b"") * 100_000

    began = time.process_time()
    assert list(inflate(iter([many]), Limits())) == []
    assert time.process_time() - began < 3


def test_members_are_gzip_even_where_their_data_looks_like_gzip() -> None:
    inner = gzip.compress(b"inner")

    assert b"".join(inflate(iter([gzip.compress(inner)]), Limits())) == inner


def test_a_deflate_stream_without_a_gzip_header_is_not_unpacked() -> None:
    packed = zlib.compress(TEXT)

    assert b"".join(inflate(iter([packed]), Limits())) == packed


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(1, 8))
def test_peeking_takes_nothing_away(chunks: list[bytes], size: int) -> None:
    head, rest = peek(iter(chunks), size)

    assert head == b"".join(chunks)[:size]
    assert b"".join(rest) == b"".join(chunks)


def test_an_error_says_its_reason_and_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(DecodeError("too-large", "more than 1 byte")))

    assert (error.reason, str(error)) == ("too-large", "too-large: more than 1 byte")
