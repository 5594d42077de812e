"""Attempts to reach services and answers of theirs: rows in, how often each service was tried and answered out.

A service is an address and a port, in one roll-up: the destination of an attempt, and the source of an answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.distinct import U64, chained
from beam_flowlogs.grouped import Ints, distinct, sums_at
from beam_flowlogs.hashed_rows import Bools, HashedRows
from beam_flowlogs.row_classes import CLASSES, REJECTED, Placed
from beam_flowlogs.rows import Rows

ADDRESSES = ("srcaddr", "dstaddr")
PORTS = ("srcport", "dstport")
"""The columns that services are told by."""
_SIZES = ("packets", "bytes")

_ATTEMPT, _ANSWER = 1, 2
_BY_FLAGS = np.where(
    REJECTED, 0, [_ATTEMPT * ("tcp.begun" in told) + _ANSWER * ("tcp.answered" in told) for *_, told in CLASSES]
).astype(np.uint8)
"""For each class what its rows are, where TCP flags are logged."""
_ACCEPTED_TCP = np.array([protocol == "tcp" for *_, protocol, _ in CLASSES]) & ~REJECTED

_ATTEMPT_PACKETS, _ATTEMPT_BYTES = 3, 80
"""A connection attempt is sent again after one and three seconds; a SYN has 40 to 80 bytes."""
_ATTEMPTS = 3

Told = npt.NDArray[np.uint8]
"""For each row 1 if it may be an attempt, 2 if it may be an answer, 3 if either."""


class Services(NamedTuple):
    """Services: a row of each, whether it is where that row comes from, and how often it was tried and answered."""

    rows: Ints
    is_source: Bools
    begun: Ints
    answered: Ints


def services(placed: Placed, rows: Rows) -> Services | None:
    """Return the services that those of these rows tell that are not refused; None where they cannot tell any.

    Without TCP flags an attempt is what is no bigger than a few SYNs. Services that a batch has few of are left out,
    and what is an attempt as well as an answer is an answer: two sides that talk little, and not in vain.
    """
    columns = rows.columns
    if not columns.keys() >= {*ADDRESSES, *PORTS}:
        return None
    if "tcp_flags" in columns:
        return counted(placed, rows, _BY_FLAGS[placed.classes].take(placed.at) * _are_whole(rows), of_tried=False)
    if not columns.keys() >= {*_SIZES}:
        return None
    packets, octets = map(rows.integers, _SIZES)
    is_accepted = _ACCEPTED_TCP[placed.classes]
    small = np.flatnonzero(packets <= _ATTEMPT_PACKETS)  # few rows are, so the rest is looked up of these alone
    small = small[is_accepted.take(placed.at.take(small))]
    few, least = octets.take(small), packets.take(small)
    small = small[(least > 0) & (few <= least * _ATTEMPT_BYTES)]
    if len(small) < _ATTEMPTS:
        return None
    whole = _are_whole(rows)
    small = small[whole[small]]
    often = small[_are_many(_hashes(placed, rows, small, "dst"), _ATTEMPTS)]
    if not len(often):
        return None
    told = (is_accepted.take(placed.at) & whole) * np.uint8(_ANSWER)
    told[often] |= _ATTEMPT
    return counted(placed, rows, told, of_tried=True)


def _are_many(values: U64, least: int) -> Bools:
    """Return which values there are so often."""
    _, which = distinct(values)
    return (np.bincount(which) >= least)[which]


def _are_whole(rows: Rows) -> Bools:
    """Return which rows have both addresses and both ports."""
    source, destination = (rows.addresses[name].valid for name in ADDRESSES)
    whole = source & destination
    for name in PORTS:
        there = kernel.valid(rows.columns[name])
        if there is not None:
            whole &= there.view(bool)
    return whole


def counted(placed: Placed, rows: Rows, told: Told, *, of_tried: bool) -> Services:
    """Return the services that rows tried or answered for; with ``of_tried``, none that only answered.

    A row that may be either is an answer if its source was tried; without ``of_tried`` there is none.
    """
    if kernel.compiled:
        return _compiled(placed, rows, told, of_tried)
    tried, back = np.flatnonzero(told & _ATTEMPT), np.flatnonzero(told & _ANSWER)
    services, answering = _hashes(placed, rows, tried, "dst"), _hashes(placed, rows, back, "src")
    if of_tried:
        is_answer = np.isin(answering, services)
        back, answering = back[is_answer], answering[is_answer]
    is_attempt = ~np.isin(tried, back)
    found = np.append(tried[is_attempt], back)
    order = np.argsort(found)
    examples, which = distinct(np.append(services[is_attempt], answering)[order])
    is_source = (np.arange(len(found)) >= np.count_nonzero(is_attempt))[order]
    begun, answered = (sums_at(which, len(examples), each.astype(np.int64)) for each in (~is_source, is_source))
    return Services(found[order][examples], is_source[examples], begun, answered)


def _hashes(placed: Placed, rows: Rows, at: Ints, side: str) -> U64:
    """Return a hash of the group, address and port of the rows at some places, those of one side."""
    address, port = f"{side}addr", f"{side}port"
    some = HashedRows.of(placed, rows, at, addresses=[address], numbers=[port])
    where = some.address(address)
    assert where is not None
    return chained(where.hashes, some.number(port).hashes, some.group.astype(np.uint64))


def _compiled(placed: Placed, rows: Rows, told: Told, of_tried: bool) -> Services:
    ends = [rows.addresses[name] for name in ADDRESSES]
    sides = [(np.ascontiguousarray(end.packed), end.is_v6.view(np.uint8)) for end in ends]
    ports = [pc.fill_null(rows.columns[name], 0).to_numpy(zero_copy_only=False) for name in PORTS]
    found, begun, answered = np.empty((3, len(told)), np.int64)
    is_source = np.empty(len(told), bool)
    rooms = (found, is_source.view(np.uint8), begun, answered)
    assert kernel.compiled
    at, groups = (np.ascontiguousarray(numbers, np.int32) for numbers in (placed.at, placed.groups))
    count = kernel.compiled.count_services(at, groups, told, *sides, ports, of_tried, *rooms)
    # Copies: they are kept for longer than the room for all rows.
    return Services(*(column[:count].copy() for column in (found, is_source, begun, answered)))
