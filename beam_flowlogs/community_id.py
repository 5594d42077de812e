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

from beam_flowlogs.addresses import Addresses

ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_ECHO_REPLY, _ECHO = 0, 8

_Words = npt.NDArray[np.uint32]

_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
_PAIRS = np.stack([np.repeat(_ALPHABET, 64), np.tile(_ALPHABET, 64)], axis=1).reshape(-1).view(np.uint16)
"""Two base64 characters for each value of twelve bits."""
_LENGTH = 30


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
    size = len(protocol)
    text = np.empty((size, _LENGTH), np.uint8)
    known = source.valid & destination.valid & (source.is_v6 == destination.is_v6)
    with_ports = np.isin(protocol, (ICMP, TCP, UDP, ICMP6, SCTP))
    ports = np.stack([source_port, destination_port], axis=1).astype(np.uint16)
    ports[(protocol == ICMP) | (protocol == ICMP6)] = _ECHO_REPLY
    ports[protocol == ICMP, 1] = _ECHO
    ordered = protocol != ICMP6  # without its type, ICMPv6 is one-way: it has no other direction to be ordered with
    for width, family in ((4, ~source.is_v6), (16, source.is_v6)):
        for has_ports in (True, False):
            rows = known & family & (with_ports == has_ports)
            count = np.count_nonzero(rows)
            if count:
                pick: Any = slice(None) if count == size else rows
                messages = _messages(
                    source.packed[pick, :width],
                    destination.packed[pick, :width],
                    protocol[pick],
                    ports[pick] if has_ports else None,
                    ordered[pick],
                )
                text[pick] = _encode(_sha1(messages))
    offsets = np.arange(0, (size + 1) * _LENGTH, _LENGTH, dtype=np.int32)
    nulls = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(text), nulls)


def _messages(
    source: npt.NDArray[np.uint8],
    destination: npt.NDArray[np.uint8],
    protocol: npt.NDArray[np.integer[Any]],
    ports: npt.NDArray[np.uint16] | None,
    ordered: npt.NDArray[np.bool_],
) -> list[_Words | int]:
    """Return the sixteen big-endian words of every row's only SHA-1 block."""
    size, width = source.shape
    ends = [
        np.concatenate([side, _port_bytes(ports, at, size)], axis=1) for at, side in ((0, source), (1, destination))
    ]
    swap = ordered & _greater(*ends)
    if swap.any():
        ends = [np.where(swap[:, None], ends[1 - at], ends[at]) for at in (0, 1)]
    parts = [np.zeros((size, 2), np.uint8), ends[0][:, :width], ends[1][:, :width]]
    parts += [protocol.astype(np.uint8)[:, None], np.zeros((size, 1), np.uint8)]
    if ports is not None:
        parts += [ends[0][:, width:], ends[1][:, width:]]
    length = sum(part.shape[1] for part in parts)
    parts += [np.full((size, 1), 0x80, np.uint8), np.zeros((size, -(length + 1) % 4), np.uint8)]
    words = np.concatenate(parts, axis=1).view(">u4").astype(np.uint32)
    block: list[_Words | int] = [words[:, at] for at in range(words.shape[1])]
    return [*block, *[0] * (15 - len(block)), 8 * length]


def _port_bytes(ports: npt.NDArray[np.uint16] | None, at: int, size: int) -> npt.NDArray[np.uint8]:
    if ports is None:
        return np.zeros((size, 0), np.uint8)
    return ports[:, at].astype(">u2").view(np.uint8).reshape(size, 2)


def _greater(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell for each row whether ``left`` comes after ``right``, byte by byte."""
    differs = left != right
    first = differs.argmax(axis=1)[:, None]
    return np.take_along_axis(left, first, 1)[:, 0] > np.take_along_axis(right, first, 1)[:, 0]


def _sha1(block: list[_Words | int]) -> list[_Words]:
    """Return the five words of the SHA-1 of each row's block (FIPS 180-4); arrays are reused, as memory is the cost."""
    size = next(len(word) for word in block if isinstance(word, np.ndarray))
    schedule = [np.full(size, word, np.uint32) for word in block]
    start = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)
    a, b, c, d, e = (np.full(size, word, np.uint32) for word in start)
    mix, spare = np.empty(size, np.uint32), np.empty(size, np.uint32)
    for step in range(80):
        word = schedule[step & 15]
        if step >= 16:
            for back in (3, 8, 14):
                np.bitwise_xor(word, schedule[(step - back) & 15], out=word)
            _rotate(word, 1, spare)
        if step < 20:
            constant = 0x5A827999
            np.bitwise_xor(c, d, out=mix)
            np.bitwise_and(mix, b, out=mix)
            np.bitwise_xor(mix, d, out=mix)
        elif 40 <= step < 60:
            constant = 0x8F1BBCDC
            np.bitwise_or(b, c, out=mix)
            np.bitwise_and(mix, d, out=mix)
            np.bitwise_and(b, c, out=spare)
            np.bitwise_or(mix, spare, out=mix)
        else:
            constant = 0x6ED9EBA1 if step < 40 else 0xCA62C1D6
            np.bitwise_xor(b, c, out=mix)
            np.bitwise_xor(mix, d, out=mix)
        for term in (mix, word, np.uint32(constant)):
            np.add(e, term, out=e)
        np.left_shift(a, 5, out=mix)
        np.add(e, mix, out=e)
        np.right_shift(a, 27, out=mix)
        np.add(e, mix, out=e)
        _rotate(b, 30, spare)
        a, b, c, d, e = e, a, b, c, d
    return [word + np.uint32(initial) for word, initial in zip((a, b, c, d, e), start)]


def _rotate(word: _Words, by: int, spare: _Words) -> None:
    np.right_shift(word, 32 - by, out=spare)
    np.left_shift(word, by, out=word)
    np.bitwise_or(word, spare, out=word)


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
