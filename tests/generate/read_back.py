"""Reads written files back with other libraries than the generator's: gzip and polars."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from typing import Any

import polars as pl

NUMBERS = ("bytes", "packets", "start", "end")


def read_object(key: str, body: bytes) -> pl.DataFrame:
    """Return the records of one object as columns of text named as in the header; null stands for ``-``."""
    if key.endswith(".parquet"):
        frame = pl.read_parquet(io.BytesIO(body))
        return frame.select(pl.all().cast(pl.String)).rename(lambda name: name.replace("_", "-"))
    lines = gzip.decompress(body).decode()
    frame = pl.read_csv(lines.encode(), separator=" ", infer_schema=False, quote_char=None, null_values="-")
    assert frame.height == lines.count("\n") - 1
    return frame


def read_all(objects: Mapping[str, bytes]) -> pl.DataFrame:
    """Return the records of all objects."""
    return pl.concat([read_object(key, body) for key, body in objects.items()])


def rollups(frame: pl.DataFrame, time: str = "end") -> list[dict[str, Any]]:
    """Add up records that have every field which a roll-up needs, as truth.json has it."""
    keys = {"interface-id": "interface", "resource-id": "resource", "tgw-attachment-id": "tgw_attachment"}
    known = {name: kind for name, kind in keys.items() if name in frame.columns}
    frame = frame.with_columns(
        pl.col([name for name in NUMBERS if name in frame.columns]).cast(pl.Int64),
        key=pl.coalesce(*known),
        key_type=pl.coalesce(pl.when(pl.col(name).is_not_null()).then(pl.lit(kind)) for name, kind in known.items()),
    ).with_columns(window_start=pl.col(time) // 60 * 60)
    ok = pl.col("log-status") == "OK"
    classes = {"": ok}
    for name, field, value in (
        ("accepted.", "action", "ACCEPT"),
        ("rejected.", "action", "REJECT"),
        ("ingress.", "flow-direction", "ingress"),
        ("egress.", "flow-direction", "egress"),
    ):
        classes[name] = (ok & (pl.col(field) == value)) if field in frame.columns else pl.lit(False)
    sums = []
    for name, chosen in classes.items():
        sums.append(pl.when(chosen).then(1).otherwise(0).sum().cast(pl.Int64).alias(f"{name}flows"))
        for measure in ("bytes", "packets"):
            amount = pl.col(measure) if measure in frame.columns else pl.lit(0)
            sums.append(pl.when(chosen).then(amount).otherwise(0).sum().cast(pl.Int64).alias(f"{name}{measure}"))
    totals = frame.group_by("key_type", "key", "window_start").agg(
        *sums,
        (pl.col("log-status") == "NODATA").sum().cast(pl.Int64).alias("nodata"),
        (pl.col("log-status") == "SKIPDATA").sum().cast(pl.Int64).alias("skipdata"),
        first_seen=pl.col("start" if "start" in frame.columns else time).min(),
        last_seen=pl.col(time).max(),
    )
    return [_nested(row) for row in totals.sort("key_type", "key", "window_start").to_dicts()]


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in row.items():
        group, _, measure = name.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[measure] = value
    return nested
