"""Our distinct counts beside those of Apache DataSketches: CPU, bytes and error; and its frequent items.

Needs ``pip install datasketches``, which the project does not use. Values are hashed and sorted by group before the
clock starts, for both; a group is a roll-up.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_flowlogs.distinct import COUPON_BITS, U64, coupons, encode, estimate_union, estimates, scramble, union

_ROWS = 1_000_000
_PAIRS = range(0, 500, 2)

Ints = npt.NDArray[np.int64]


def main() -> None:
    """Print the tables."""
    library = import_module("datasketches")
    print("| groups | ours, CPU-s per million rows | DataSketches | ours, us a union of two | DataSketches |")
    print("|--:|--:|--:|--:|--:|")
    for groups in (1_000, 10_000, 100_000):
        print(_cost(library, groups))
    print("\n| different | our bytes | HLL_4 | HLL_8 | our error | DataSketches |\n|--:|--:|--:|--:|--:|--:|")
    for count in (1, 2, 10, 30, 100, 300, 1_000, 10_000):
        print(_size(library, count))
    frequent = library.frequent_strings_sketch(5)
    addresses = [f"10.0.0.{number % 200}" for number in range(_ROWS)]
    print(
        f"\nFrequent items of strings: {_cpu(lambda: list(map(frequent.update, addresses)))[0]:.2f} CPU-s per million."
    )


def _cost(library: Any, groups: int) -> str:
    random = np.random.default_rng(1)
    group = np.sort(random.integers(0, groups, _ROWS))
    values = random.integers(0, _ROWS // groups, _ROWS).astype(np.uint64) + (group << 20).astype(np.uint64)
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), _ROWS]
    numbers = values.tolist()
    ours, texts = _cpu(lambda: encode(_ours(group, values), groups))
    theirs, sketches = _cpu(
        lambda: [_theirs(library, numbers[begin:end]).serialize_compact() for begin, end in pairwise(cuts)]
    )
    our_union, _ = _cpu(lambda: [estimate_union(texts[at : at + 2]) for at in _PAIRS])
    their_union, _ = _cpu(lambda: [_united(library, sketches[at : at + 2]) for at in _PAIRS])
    each = 1e6 / len(_PAIRS)
    return f"| {groups:,} | {ours:.3f} | {theirs:.3f} | {our_union * each:.0f} | {their_union * each:.0f} |"


def _size(library: Any, count: int) -> str:
    starts = [begin << 32 for begin in range(30)]
    mine = [_ours(np.zeros(count, np.int64), np.arange(at, at + count, dtype=np.uint64)) for at in starts]
    other = [_theirs(library, range(at, at + count)) for at in starts]
    small = _theirs(library, range(count), library.tgt_hll_type.HLL_4)
    sizes = [len(base64.b64encode(sketch.serialize_compact())) for sketch in (small, other[0])]
    errors = [
        float(np.sqrt(np.mean(np.square(np.array(found) / count - 1))))
        for found in ([estimates(one, 1)[0] for one in mine], [one.get_estimate() for one in other])
    ]
    told = " | ".join(f"{size:,}" for size in (count, len(encode(mine[0], 1)[0]), *sizes))
    return f"| {told} | {errors[0]:.1%} | {errors[1]:.1%} |"


def _ours(group: Ints, values: U64) -> U64:
    return union([(group.astype(np.uint64) << np.uint64(COUPON_BITS)) | coupons(scramble(values))])


def _theirs(library: Any, values: Sequence[int], kind: Any = None) -> Any:
    sketch = library.hll_sketch(10, kind or library.tgt_hll_type.HLL_8)
    update = sketch.update
    for value in values:
        update(value)
    return sketch


def _united(library: Any, sketches: Sequence[bytes]) -> float:
    both = library.hll_union(10)
    for data in sketches:
        both.update(library.hll_sketch.deserialize(data))
    return float(both.get_estimate())


def _cpu(action: Callable[[], Any]) -> tuple[float, Any]:
    best, found = float("inf"), None
    for _ in range(3):
        began = time.process_time()
        found = action()
        best = min(best, time.process_time() - began)
    return best, found


if __name__ == "__main__":
    main()
