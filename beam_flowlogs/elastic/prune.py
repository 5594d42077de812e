"""Deletes whole indices by the day or month in their names: retention for a server without lifecycle policies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from elasticsearch import Elasticsearch

from beam_flowlogs.document import RAW_INDEX_PREFIX
from beam_flowlogs.elastic.lifecycle import Retention
from beam_flowlogs.rollup import ROLLUP_INDEX_PREFIX

_DAY = re.compile(rf"{re.escape(RAW_INDEX_PREFIX)}(\d{{4}})\.(\d\d)\.(\d\d)")
_MONTH = re.compile(rf"{re.escape(ROLLUP_INDEX_PREFIX)}(\d{{4}})\.(\d\d)")


class Pruned(NamedTuple):
    """An index past its time: its name, the documents it holds, and the bytes of disk it takes, copies included."""

    name: str
    documents: int
    bytes: int


def prune(client: Elasticsearch, retention: Retention, now: datetime, *, dry_run: bool = False) -> list[Pruned]:
    """Delete every raw and roll-up index whose whole day or month is older than ``retention``; return them.

    An index with any other name is left alone. With ``dry_run`` nothing is deleted.
    """
    answer = client.indices.stats(
        index=f"{RAW_INDEX_PREFIX}*,{ROLLUP_INDEX_PREFIX}*", metric="docs,store", expand_wildcards="all"
    )
    old = [
        Pruned(index, stats["primaries"]["docs"].get("count", 0), stats["total"]["store"].get("size_in_bytes", 0))
        for index, stats in sorted(answer["indices"].items())
        if any(end + kept <= now for end, kept in _period(index, retention))
    ]
    if not dry_run:
        for pruned in old:
            # One by one and by full name: clusters may refuse wildcards, and another prune may have been faster.
            client.options(ignore_status=404).indices.delete(index=pruned.name)
    return old


def _period(index: str, retention: Retention) -> Iterator[tuple[datetime, timedelta]]:
    """Yield the end of the time that an index holds, and how long it is kept after that; nothing for other names."""
    try:
        if day := _DAY.fullmatch(index):
            year, month, number = map(int, day.groups())
            yield _utc(year, month, number) + timedelta(days=1), timedelta(days=retention.raw_days)
        elif named := _MONTH.fullmatch(index):
            year, month = map(int, named.groups())
            following = _utc(year, month) + timedelta(days=31)
            yield following.replace(day=1), timedelta(days=retention.rollup_days)
    except ValueError:  # 2026.02.31 is a name, but no day
        return


def _utc(year: int, month: int, day: int = 1) -> datetime:
    return datetime(year, month, day, tzinfo=timezone.utc)
