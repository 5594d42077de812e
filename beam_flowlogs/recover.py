"""Raw documents of an object that can no longer be read in; its parts of the roll-ups out.

A worker that dies after it has indexed some of an object leaves documents that no roll-up counts. Reading the object
again counts them; if it is gone by then, or another one lies in its place, they are counted from the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from elasticsearch import Elasticsearch
from elasticsearch.helpers import ScanError, scan

from beam_flowlogs.addresses import parse_addresses
from beam_flowlogs.config import JobConfig
from beam_flowlogs.document import RAW_INDEX_PREFIX, Origin
from beam_flowlogs.elastic.patience import NotReadable, patiently
from beam_flowlogs.fields import BY_COLUMN, NAMESPACE, Kind
from beam_flowlogs.object_key import parse_key
from beam_flowlogs.object_parts import PartsOfObject, parts_of_object
from beam_flowlogs.rollup import Part, RollUpKey
from beam_flowlogs.rows import Rows, logged_times
from beam_flowlogs.s3_object import OBJECT_ID_LENGTH, ObjectRef

_AT_ONCE = 2000


def recover_parts(client: Elasticsearch, ref: ObjectRef, config: JobConfig) -> list[tuple[RollUpKey, Part]]:
    """Return the parts of all that is indexed of the objects that ever lay under the bucket and key of ``ref``.

    Their sums are those that reading the same rows gives; without TCP flags, services that were tried in vain are told
    batch by batch, and the batches are others. Merged beside a part of more rows, one changes nothing.
    """
    return patiently(partial(_parts, client, ref, config), config.retry_for)


def _parts(client: Elasticsearch, ref: ObjectRef, config: JobConfig) -> list[tuple[RollUpKey, Part]]:
    index = f"{RAW_INDEX_PREFIX}*"
    client.indices.refresh(index=index, ignore_unavailable=True)
    place = [{"term": {"aws.s3.bucket.name": ref.bucket}}, {"term": {"aws.s3.object.key": ref.key}}]
    body = {"query": {"bool": {"filter": place}}, "_source": [f"{NAMESPACE}.*", "log.offset"]}
    collected: dict[str, PartsOfObject] = {}
    waiting: dict[str, list[Mapping[str, Any]]] = {}

    def count(object_id: str) -> None:
        key = parse_key(ref.key)
        origin = Origin(ref.bucket, ref.key, object_id, key.account_id, key.region)
        slot_ms = None if key.slot is None else int(key.slot.timestamp() * 1000)
        if object_id not in collected:
            collected[object_id] = parts_of_object(origin, key.flow_log_id, config)
        collected[object_id].add(_rows(waiting.pop(object_id), slot_ms))

    try:
        for hit in scan(client, query=body, index=index, size=_AT_ONCE, ignore_unavailable=True):
            object_id = hit["_id"][:OBJECT_ID_LENGTH]
            rows = waiting.setdefault(object_id, [])
            rows.append(hit["_source"])
            if len(rows) >= _AT_ONCE:
                count(object_id)
    except ScanError as error:
        raise NotReadable(f"what is indexed of {ref.url} could not be read whole: {error}") from error
    for object_id in list(waiting):
        count(object_id)
    return [part for parts in collected.values() for part in parts.finish()]


def _rows(sources: Sequence[Mapping[str, Any]], slot_ms: int | None) -> Rows:
    """Return the rows that documents were made of, with the columns that are logged under their own names."""
    logged = [source.get("aws", {}).get("vpcflow", {}) for source in sources]
    names = [name for name in BY_COLUMN if any(name in values for values in logged)]
    columns = {name: pa.array([values.get(name) for values in logged], BY_COLUMN[name].kind.arrow) for name in names}
    batch = pa.RecordBatch.from_pydict(columns)
    numbers = np.array([source["log"]["offset"] for source in sources], np.int64)
    addresses = {name: parse_addresses(batch.column(name)) for name in names if BY_COLUMN[name].kind is Kind.ADDRESS}
    return Rows(batch, numbers, *logged_times(batch, slot_ms), addresses)
