"""Community ID v1 (seed 0) of many flows at once: columns in, one 30-character ASCII string a row out.

Source: the Community ID Flow Hashing specification, version 1. A flow and its reply have the same id: the endpoints are
ordered, joined with protocol and ports, hashed by SHA-1 and written in base64. The messages are shorter than one SHA-1
block, so the hash runs over all rows together, a word of the block at a time; it takes a third of hashing row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_flowlogs import kernel
from beam_flowlogs.addresses import Addresses

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_ECHO = 8

_Words = npt.NDArray[np.uint32]

_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_PAIRS = np.stack([np.repeat(_ALPHABET, 64), np.tile(_ALPHABET, 64)], axis=1).reshape(-1).view(np.uint16)
"""Two base64 characters for each value of twelve bits."""
_LENGTH = 30

_NUMBERS = np.arange(256)
_LOGS_PORTS = np.isin(_NUMBERS, (TCP, UDP, SCTP))
_HAS_PORTS = np.isin(_NUMBERS, (ICMP, TCP, UDP, ICMP6, SCTP))
_NO_PORT = np.zeros(256, np.uint32)
_ECHO_PORT = np.where(_NUMBERS == ICMP, np.uint32(_ECHO), np.uint32(0))
"""Stands for the destination port of ICMP: with 0, an echo reply, for the source port."""

_START = np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0], np.uint32)
_CONSTANTS = [np.array(constant, np.uint32) for constant in (0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)]
_BITS = [np.array(count, np.uint32) for count in range(32)]


def community_ids(
    source: Addresses,
    destination: Addresses,
    protocol: npt.NDArray[np.integer[Any]],
    source_port: npt.NDArray[np.integer[Any]],
    destination_port: npt.NDArray[np.integer[Any]],
) -> pa.StringArray:
    """Return each row's Community ID; null where the addresses are not both valid and of one family.

    ICMP's type and code are not logged, so they count as 0 (an echo reply, whose counterpart is an echo).
    """
    known = source.valid & destination.valid & (source.is_v6 == destination.is_v6)
    text = _texts(source.packed, destination.packed, source.is_v6, protocol, source_port, destination_port)
    offsets = np.arange(0, (len(protocol) + 1) * _LENGTH, _LENGTH, dtype=np.int32)
    nulls = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.StringArray.from_buffers(len(protocol), pa.py_buffer(offsets), pa.py_buffer(text), nulls)


def _texts(
    source: npt.NDArray[np.uint8],
    destination: npt.NDArray[np.uint8],
    is_v6: npt.NDArray[np.bool_],
    *numbers: npt.NDArray[np.integer[Any]],
) -> npt.NDArray[np.uint8]:
    if kernel.compiled:
        text = np.empty((len(is_v6), _LENGTH), np.uint8)
        as_given = [np.ascontiguousarray(column, np.int32) for column in numbers]
        kernel.compiled.community_ids(_bytes(source), _bytes(destination), _bytes(is_v6), *as_given, text)
        return text
    flows: tuple[npt.NDArray[Any], ...] = (source, destination, *numbers)
    messages = _messages(*flows, words=1)
    v6 = np.flatnonzero(is_v6)
    if len(v6):
        messages[:, v6] = _messages(*(column[v6] for column in flows), words=4)
    return _encode(_sha1(messages))


def _bytes(column: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(column).view(np.uint8)


def _messages(
    source: npt.NDArray[np.uint8],
    destination: npt.NDArray[np.uint8],
    protocol: npt.NDArray[np.integer[Any]],
    source_port: npt.NDArray[np.integer[Any]],
    destination_port: npt.NDArray[np.integer[Any]],
    *,
    words: int,
) -> _Words:
    """Return each row's only SHA-1 block, its sixteen words below each other; ``words`` is the length of an address.

    A message is two zero bytes (the seed), the lesser end's address, the other's, protocol, a zero byte, and the ports
    in the same order, of protocols that have any.
    """
    size = len(protocol)
    logged = _LOGS_PORTS.take(protocol)
    ends = [
        [*packed.view(">u4")[:, :words].T.astype(np.uint32), port.astype(np.uint32) * logged + told.take(protocol)]
        for packed, port, told in (
            (source, source_port, _NO_PORT),
            (destination, destination_port, _ECHO_PORT),
        )
    ]
    swap = np.zeros(size, bool)
    for left, right in zip(*map(reversed, ends)):
        swap = (left > right) | ((left == right) & swap)
    swap &= protocol != ICMP6  # without its type, ICMPv6 is one-way: it has no other direction to be ordered with
    *first, first_port = (np.where(swap, right, left) for left, right in zip(*ends))
    *second, second_port = (np.where(swap, left, right) for left, right in zip(*ends))
    messages = np.zeros((16, size), np.uint32)
    for at, word in enumerate((*first, *second)):
        messages[at] |= word >> 16
        messages[at + 1] = word << 16
    messages[2 * words] |= protocol.astype(np.uint32) << 8
    with_ports = _HAS_PORTS.take(protocol)
    end = np.uint32(0x80000000)  # the bit that SHA-1 puts behind a message; its length stands in the last word
    messages[2 * words + 1] = np.where(with_ports, first_port << 16 | second_port, end)
    messages[2 * words + 2] = end * with_ports
    messages[15] = 32 * (2 * words + 1 + with_ports)
    return messages


def _sha1(schedule: _Words) -> list[_Words]:
    """Return the five words of the SHA-1 of each row's block (FIPS 180-4); ``schedule`` is used up.

    A step is a dozen calls of numpy, each over as many rows as fit the cache: outputs go where they need no new memory,
    and scalars are ready arrays, because numpy takes as long to convert one as to add a thousand numbers.
    """
    a, b, c, d, e = np.broadcast_to(_START, (schedule.shape[1], 5)).T.copy()
    mix, spare = np.empty_like(a), np.empty_like(a)
    for step in range(80):
        word = schedule[step & 15]
        if step >= 16:
            for back in (3, 8, 14):
                np.bitwise_xor(word, schedule[(step - back) & 15], word)
            _rotate(word, 1, spare)
        if step < 20:
            np.bitwise_xor(c, d, mix)
            np.bitwise_and(mix, b, mix)
            np.bitwise_xor(mix, d, mix)
        elif 40 <= step < 60:
            np.bitwise_or(b, c, mix)
            np.bitwise_and(mix, d, mix)
            np.bitwise_and(b, c, spare)
            np.bitwise_or(mix, spare, mix)
        else:
            np.bitwise_xor(b, c, mix)
            np.bitwise_xor(mix, d, mix)
        for term in (mix, word, _CONSTANTS[step // 20]):
            np.add(e, term, e)
        np.left_shift(a, _BITS[5], mix)
        np.add(e, mix, e)
        np.right_shift(a, _BITS[27], mix)
        np.add(e, mix, e)
        _rotate(b, 30, spare)
        a, b, c, d, e = e, a, b, c, d
    return [word + initial for word, initial in zip((a, b, c, d, e), _START)]


def _rotate(word: _Words, by: int, spare: _Words) -> None:
    np.right_shift(word, _BITS[32 - by], spare)
    np.left_shift(word, _BITS[by], word)
    np.bitwise_or(word, spare, word)


def _encode(digest: list[_Words]) -> npt.NDArray[np.uint8]:
    """Return ``1:`` and the base64 of 160-bit digests, thirty characters a row."""
    size = len(digest[0])
    text = np.empty((size, _LENGTH // 2), np.uint16)
    text[:, 0] = np.frombuffer(b"1:", np.uint16)[0]
    for at in range(14):
        word, shift = divmod(12 * at, 32)
        twelve = digest[word] << np.uint32(shift) >> np.uint32(20)
        if shift > 20 and word < 4:
            twelve |= digest[word + 1] >> np.uint32(52 - shift)
        text[:, at + 1] = _PAIRS[twelve]
    encoded = text.view(np.uint8)
    encoded[:, -1] = ord("=")
    return encoded
