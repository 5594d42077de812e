"""How many different things there were: HyperLogLog over columns, as small sorted sets that merge by union.

A sketch has 1,024 registers, which puts the standard error at 3.3 %; up to some hundred things it is off by one or
two at most. It is kept as its coupons, 16 bits for each register that is set: the register's number and, below it,
the rank that it saw (Flajolet et al., "HyperLogLog", 2007; small counts by linear counting). Built from whole columns,
and small where there is little to count; beside a library: docs/decisions/0044-our-own-distinct-counts.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_REGISTER_BITS = 10
_REGISTERS = 1 << _REGISTER_BITS
_RANK_BITS = 6
COUPON_BITS = _REGISTER_BITS + _RANK_BITS
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)

U64 = npt.NDArray[np.uint64]


def scramble(values: U64) -> U64:
    """Return well-mixed 64-bit hashes of 64-bit values (the finalizer of SplitMix64); the same on every machine."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def chained(hashes: U64, *others: U64) -> U64:
    """Return a hash of each row's ``hashes`` and of what stands for all others; (a, b) and (b, a) differ."""
    for other in others:
        hashes = scramble(hashes) ^ other
    return hashes


def coupons(hashes: U64) -> U64:
    """Return the coupon of each hash: what it would set its register to."""
    below = (hashes & np.uint64(0xFFFFFFFF)).astype(np.float64)
    # The exponent of a double is the place of the highest bit; of 0 it is far below, so that the rank is capped.
    exponents = (below.view(np.uint64) >> np.uint64(52)).astype(np.int64) - 1023
    ranks = np.minimum(32 - exponents, 33).astype(np.uint64)
    return (hashes >> np.uint64(64 - _REGISTER_BITS) << np.uint64(_RANK_BITS)) | ranks


def union(grouped: Sequence[U64]) -> U64:
    """Return coupons of several batches as one sorted set, each with its group's number above its 16 bits.

    Of a register's coupons only the highest is kept.
    """
    merged = np.sort(np.concatenate(grouped))
    registers = merged >> np.uint64(_RANK_BITS)
    return merged[np.append(registers[1:] != registers[:-1], np.ones(min(len(merged), 1), bool))]


def estimates(grouped: U64, groups: int) -> npt.NDArray[np.int64]:
    """Return how many different things each of ``groups`` groups saw, from what ``union`` gave."""
    group = (grouped >> np.uint64(COUPON_BITS)).astype(np.int64)
    ranks = (grouped & np.uint64((1 << _RANK_BITS) - 1)).astype(np.float64)
    zeros = _REGISTERS - np.bincount(group, minlength=groups)
    harmonic = zeros + np.bincount(group, weights=np.exp2(-ranks), minlength=groups)
    raw = _ALPHA * _REGISTERS**2 / harmonic
    linear = _REGISTERS * np.log(_REGISTERS / np.maximum(zeros, 1))
    return np.rint(np.where((raw <= 2.5 * _REGISTERS) & (zeros > 0), linear, raw)).astype(np.int64)


def encode(grouped: U64, groups: int) -> list[str]:
    """Return each group's coupons as text, which is how a part carries them."""
    bounds = np.searchsorted(grouped, np.arange(groups + 1, dtype=np.uint64) << np.uint64(COUPON_BITS)) * 2
    data = grouped.astype("<u2").tobytes()
    cuts = bounds.tolist()
    return [base64.b64encode(data[begin:end]).decode() for begin, end in pairwise(cuts)]


def estimate_union(texts: Iterable[str]) -> int:
    """Return how many different things were seen by all whose coupons these are."""
    found = [np.frombuffer(base64.b64decode(text), "<u2").astype(np.uint64) for text in texts]
    return int(estimates(union(found), 1)[0])
