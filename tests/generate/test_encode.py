from __future__ import annotations

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_flowlogs.generate import encode_parquet, encode_text

NAMES = ("interface-id", "bytes", "pkt-srcaddr")


@pytest.mark.parametrize(
    "records",
    [
        [{"interface-id": "eni-1", "bytes": 7}, {"bytes": None, "pkt-srcaddr": "2001:db8::1"}],
        {"interface_id": ["eni-1", None], "bytes": [7, None], "pkt-srcaddr": [None, "2001:db8::1"]},
        {"interface_id": pa.array(["eni-1", None]), "bytes": pa.array([7, None]), "pkt_srcaddr": [None, "2001:db8::1"]},
    ],
    ids=["dicts", "columns", "arrow"],
)
def test_records_are_written_in_the_order_of_the_names(records: Any) -> None:
    text = gzip.decompress(encode_text(records, NAMES)).decode()
    assert text == "interface-id bytes pkt-srcaddr\neni-1 7 -\n- - 2001:db8::1\n"
    table = pq.read_table(io.BytesIO(encode_parquet(records, NAMES)))
    assert table.to_pydict() == {
        "interface_id": ["eni-1", None], "bytes": [7, None], "pkt_srcaddr": [None, "2001:db8::1"],
    }  # fmt: skip
    assert table.schema.types == [pa.string(), pa.int64(), pa.string()]


def test_text_holds_whatever_stands_in_a_record() -> None:
    text = gzip.decompress(encode_text([{"bytes": "many"}, {"bytes": 2**70}], ["bytes", "new-field"])).decode()
    assert text == f"bytes new-field\nmany -\n{2**70} -\n"


def test_parquet_refuses_what_its_type_cannot_hold() -> None:
    with pytest.raises(pa.ArrowInvalid, match="many"):
        encode_parquet([{"bytes": "many"}], ["bytes"])


@pytest.mark.parametrize("records", [[], {}, {"bytes": []}], ids=repr)
def test_a_file_may_have_no_records(records: Any) -> None:
    assert gzip.decompress(encode_text(records, ["bytes", "end"])) == b"bytes end\n"
    assert pq.read_table(io.BytesIO(encode_parquet(records, ["bytes", "end"]))).shape == (0, 2)


def test_records_without_any_of_the_fields_are_still_records() -> None:
    assert gzip.decompress(encode_text([{}, {"start": 1}], ["bytes"])) == b"bytes\n-\n-\n"


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        encode_text({"bytes": [1], "end": [1, 2]}, ["bytes"])


def test_the_same_records_give_the_same_bytes() -> None:
    assert encode_text([{"bytes": 1}], ["bytes"]) == encode_text([{"bytes": 1}], ["bytes"])


def test_parquet_compression_is_as_asked() -> None:
    file = pq.ParquetFile(io.BytesIO(encode_parquet([{"bytes": 1}], ["bytes"], compression="snappy")))
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
