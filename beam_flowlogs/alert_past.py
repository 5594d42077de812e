"""What alert rules look at: a roll-up, and what there is to remember of those before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

Rolled = Mapping[str, Any]
"""What a roll-up document has under ``flowlogs.rollup``, without its parts."""


def top_of(rolled: Rolled, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the entries of one of a roll-up's lists, the biggest first."""
    found: Sequence[Mapping[str, Any]] = rolled.get("top", {}).get(name, ())
    return found


class Past(NamedTuple):
    """What rules look back at in an earlier roll-up."""

    flows: int
    bytes: int
    rejected: int
    nodata: int
    rejected_ports: Sequence[int]
    rejected_sources: Sequence[str]

    @classmethod
    def of(cls, rolled: Rolled) -> Past:
        """Return what there is to remember of a roll-up."""
        ports: Sequence[int] = ()
        sources: Sequence[str] = ()
        if "top" in rolled:
            ports = [entry["port"] for entry in top_of(rolled, "rejected_ports")]
            sources = [entry["address"] for entry in top_of(rolled, "rejected_sources")]
        return cls(rolled["flows"], rolled["bytes"], rolled["rejected"]["flows"], rolled["nodata"], ports, sources)


class Before(Sequence[Past]):
    """Some windows before one, the last one last. Most windows need to know no more than how many there are."""

    def __init__(self, past: Mapping[int, Past], starts: Sequence[int], begin: int, end: int) -> None:
        self._past, self._starts, self._begin, self._end = past, starts, begin, end

    def __len__(self) -> int:
        return self._end - self._begin

    @overload
    def __getitem__(self, at: int) -> Past: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Past]: ...
    def __getitem__(self, at: int | slice) -> Past | Sequence[Past]:
        starts = self._starts[self._begin : self._end][at]
        return self._past[starts] if isinstance(starts, int) else [self._past[start] for start in starts]

    def __iter__(self) -> Iterator[Past]:
        return iter(self[:])
