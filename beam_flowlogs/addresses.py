"""IP addresses as text in an Arrow column in, their bytes as numpy arrays out, all rows of a column at once."""

from __future__ import annotations

import socket
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_flowlogs import kernel
from beam_flowlogs.kernel import string_buffers

_DOT, _ZERO = b".0"


class Addresses(NamedTuple):
    """The addresses of a column. Each array has an element a row; a null row is neither valid nor IPv6.

    ``packed`` is 16 bytes a row, an IPv4 address in the first four.
    """

    packed: npt.NDArray[np.uint8]
    is_v6: npt.NDArray[np.bool_]
    valid: npt.NDArray[np.bool_]

    def pick(self, mask: npt.NDArray[np.bool_]) -> Addresses:
        """Return the addresses of the rows that a mask names."""
        return Addresses(self.packed[mask], self.is_v6[mask], self.valid[mask])

    def take(self, rows: npt.NDArray[np.int64]) -> Addresses:
        """Return the addresses of the rows at some places."""
        return Addresses(self.packed.take(rows, axis=0), self.is_v6.take(rows), self.valid.take(rows))

    def keys(self, rows: npt.NDArray[np.int64]) -> pa.FixedSizeBinaryArray:
        """Return the addresses of some rows as values of one kind each, which ``text_of`` makes text again."""
        packed, is_v6, _ = self.take(rows)
        keys = np.concatenate([packed, is_v6[:, None].view(np.uint8)], axis=1)
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(keys.shape[1]), len(keys), [None, pa.py_buffer(keys)])


def text_of(key: bytes) -> str:
    """Return the text of an address, in its canonical form; ``key`` is one of ``Addresses.keys``."""
    return socket.inet_ntop(socket.AF_INET6, key[:16]) if key[16] else socket.inet_ntop(socket.AF_INET, key[:4])


def parse_addresses(column: pa.StringArray) -> Addresses:
    """Return the addresses of a string column; text that is no address is not ``valid``.

    Each distinct text is parsed once: a batch's addresses are of few hosts, and to tell them apart takes a sixth.
    """
    if kernel.compiled:
        size = len(column)
        packed, (is_v6, valid) = np.zeros((size, 16), np.uint8), np.zeros((2, size), bool)
        kernel.compiled.parse_addresses(*string_buffers(column), packed, is_v6.view(np.uint8), valid.view(np.uint8))
        return Addresses(packed, is_v6, valid)
    encoded = column.dictionary_encode()
    distinct = encoded.dictionary
    known = np.zeros((len(distinct) + 1, 16), np.uint8)  # the last stands for null
    is_v6, valid = np.zeros((2, len(known)), bool)
    is_v6[:-1] = pc.match_substring(distinct, ":").to_numpy(zero_copy_only=False)
    valid[:-1] = True
    is_v4 = valid & ~is_v6
    quads = _parse_v4(distinct.filter(pa.array(is_v4[:-1])))
    if quads is not None:
        known[is_v4, :4] = quads
    else:
        _parse_each(distinct, is_v4, socket.AF_INET, known, valid)
    if is_v6.any():
        _parse_each(distinct, is_v6, socket.AF_INET6, known, valid)
    places = pc.fill_null(encoded.indices, len(distinct)).to_numpy(zero_copy_only=False)
    return Addresses(known.take(places, axis=0), is_v6.take(places), valid.take(places))


def offsets(column: pa.StringArray) -> npt.NDArray[np.int32]:
    """Return where each row's text begins in the column's data, and where the last one ends; no copy."""
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)


def _characters(column: pa.StringArray) -> npt.NDArray[np.uint8]:
    data = column.buffers()[2]
    if data is None or not len(column):
        return np.zeros(0, np.uint8)
    bounds = offsets(column)
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]


def _parse_v4(column: pa.StringArray) -> npt.NDArray[np.uint8] | None:
    """Return four bytes a row, or None when any row is not four decimal numbers of one to three digits."""
    size = len(column)
    if not size:
        return np.zeros((0, 4), np.uint8)
    text = _characters(column)
    bounds = offsets(column) - offsets(column)[0]
    dots = np.flatnonzero(text == _DOT)
    digits = text - np.uint8(_ZERO)
    if len(dots) != 3 * size or np.count_nonzero(digits < 10) + len(dots) != len(text):
        return None
    begin = np.empty((size, 4), np.int32)
    end = np.empty((size, 4), np.int32)
    begin[:, 0], end[:, 3] = bounds[:-1], bounds[1:]
    end[:, :3] = dots.reshape(size, 3)
    begin[:, 1:] = end[:, :3] + 1
    length = end - begin
    if length.min() < 1 or length.max() > 3 or ((length > 1) & (digits[begin] == 0)).any():
        return None
    value = digits[end - 1].astype(np.uint16)
    value += np.where(length > 1, digits[end - 2], 0) * np.uint16(10)
    value += np.where(length > 2, digits[end - 3], 0) * np.uint16(100)
    return None if value.max() > 255 else value.astype(np.uint8)


def _parse_each(
    texts: pa.StringArray,
    rows: npt.NDArray[np.bool_],
    family: int,
    packed: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
) -> None:
    """Fill ``packed`` for some texts, one after the other; mark those that are no address."""
    for at in np.flatnonzero(rows).tolist():
        try:
            address = socket.inet_pton(family, texts[at].as_py())
        except (OSError, ValueError):
            valid[at] = False
        else:
            packed[at, : len(address)] = np.frombuffer(address, np.uint8)
