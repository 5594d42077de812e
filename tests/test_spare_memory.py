"""Memory is lent again when nobody refers to it any more, and never before."""

from __future__ import annotations

import gc

import pyarrow as pa

from beam_flowlogs.spare_memory import room

SIZE = 3 << 20


def test_what_is_still_referred_to_is_lent_to_nobody_else() -> None:
    lent = room(SIZE)
    lent[:] = 7
    rest = pa.py_buffer(lent).slice(SIZE - 8)
    del lent

    room(SIZE)[:] = 9

    assert rest.to_pybytes() == bytes([7] * 8)


def test_what_nobody_refers_to_is_lent_again() -> None:
    first = room(SIZE)
    address = first.__array_interface__["data"][0]
    del first
    gc.collect()

    assert room(SIZE - 100).__array_interface__["data"][0] == address


def test_a_large_piece_is_not_kept_for_small_results() -> None:
    large = room(64 << 20)
    address = large.__array_interface__["data"][0]
    del large

    assert room(2 << 20).__array_interface__["data"][0] != address
