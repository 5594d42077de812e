"""Memory is lent again when nobody refers to it any more, and never before."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pyarrow as pa
import pytest

from beam_flowlogs import spare_memory
from beam_flowlogs.spare_memory import room

SIZE = 3 << 20


@pytest.fixture(autouse=True)
def _nothing_is_spare() -> None:
    spare_memory._spare.clear()


def test_what_is_still_referred_to_is_lent_to_nobody_else() -> None:
    lent = room(SIZE)
    lent[:] = 7
    rest = pa.py_buffer(lent).slice(SIZE - 8)
    del lent

    room(SIZE)[:] = 9

    assert rest.to_pybytes() == bytes([7] * 8)


def test_a_view_of_what_was_lent_keeps_it() -> None:
    lent = room(SIZE)
    lent[:] = 7
    rest = lent[10:20][2:]
    del lent

    room(SIZE)[:] = 9

    assert rest.tolist() == [7] * 8


def test_what_nobody_refers_to_is_lent_again() -> None:
    first = room(SIZE)
    address = first.__array_interface__["data"][0]
    del first
    gc.collect()

    assert room(SIZE - 100).__array_interface__["data"][0] == address


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc only")
def test_what_is_freed_is_served_again_without_new_pages() -> None:
    script = """
import resource, numpy as np
from beam_flowlogs.spare_memory import keep_freed_memory
keep_freed_memory()
for round in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        piece = np.ones(3 << 20, np.uint8)
        del piece
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)

    assert faults < 768  # the pages of one piece


def test_a_piece_that_fits_no_longer_is_not_kept_for_ever() -> None:
    first, second = room(40 << 20), room(40 << 20)
    del first, second
    for _ in range(3):
        small = room(SIZE)
        del small

    assert all(len(memory) < 8 << 20 for memory in spare_memory._spare)
