"""The flow logs that benchmarks run on: a format in, files with the shape of AWS's in a folder out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from beam_flowlogs.fields import TRANSIT_GATEWAY_FORMAT, vpc_format
from beam_flowlogs.generate import FileType, FolderSink, GeneratorConfig, generate

_RECORDS_PER_OBJECT = 250_000
"""About 7 MB of gzip in the default format: the size of a busy account's objects."""
_START = 1_764_000_000
"""Always the same records: a benchmark's figures are compared over years."""


class Format(NamedTuple):
    """A kind of flow log: its fields, and the type of its files."""

    names: tuple[str, ...]
    tgw: bool = False
    file: FileType = FileType.TEXT


FORMATS = {
    "v2": Format(vpc_format(2)),
    "v5": Format(vpc_format(5)),
    "v11": Format(vpc_format(11)),
    "v2 Parquet": Format(vpc_format(2), file=FileType.PARQUET),
    "transit gateway": Format(TRANSIT_GATEWAY_FORMAT, tgw=True),
}
"""The formats that are measured, by the names that the tables give them; gzip text where nothing else is said."""


def make_objects(form: Format, records: int, folder: Path) -> list[str]:
    """Write ``records`` records of one flow log to ``folder``, and return the keys of its objects."""
    config = GeneratorConfig(
        start=_START,
        records=records,
        accounts=1,
        regions=1,
        interfaces=60,
        slots=-(-records // _RECORDS_PER_OBJECT),
        names=form.names,
        tgw=form.tgw,
        file=form.file,
    )
    truth = generate(config, FolderSink(folder))
    return [entry["key"] for entry in truth.objects]
