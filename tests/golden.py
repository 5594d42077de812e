"""The golden files: flow logs in tests/data/golden, each with the documents that it becomes, line by line.

``python -m tests.golden`` writes the documents anew, from ``reference_document`` and not from the code under test. Read
the difference against docs/records.md before you commit it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from beam_flowlogs.document import Origin
from beam_flowlogs.fields import DEFAULT_FORMAT
from tests.reference_document import reference_document

FOLDER = Path(__file__).parent / "data/golden"
BUCKET = "flow-logs"
SLOT_MS = 1_764_000_000_000
_FILE = "123456789012_vpcflowlogs_eu-west-1_fl-0a1_20251124T1600Z_1a2b3c4d.log"
_KEY = f"AWSLogs/123456789012/vpcflowlogs/eu-west-1/2025/11/24/{_FILE}.gz"


class Golden(NamedTuple):
    """A golden file; ``names`` are its fields where it has no header, the others what its key tells."""

    name: str
    key: str = _KEY
    account_id: str = "123456789012"
    region: str = "eu-west-1"
    slot_ms: int | None = SLOT_MS
    names: Sequence[str] | None = None
    exported: bool = False

    @property
    def data(self) -> bytes:
        """The flow log, as text."""
        return (FOLDER / f"{self.name}.log").read_bytes()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The documents that it must become."""
        return [json.loads(line) for line in (FOLDER / f"{self.name}.ndjson").read_text().splitlines()]

    @property
    def origin(self) -> Origin:
        """Where its rows come from."""
        return Origin(BUCKET, self.key, "A" * 16, self.account_id, self.region)

    def records(self) -> list[dict[str, str]]:
        """Return the text of every record by field name."""
        lines = [line.split(" ") for line in self.data.decode().splitlines()]
        names = self.names or lines.pop(0)
        return [dict(zip(names, line[1:] if self.exported else line)) for line in lines]


GOLDEN = (
    *(Golden(f"v{version}") for version in range(2, 12)),
    Golden("all-fields"),
    Golden("transit-gateway"),
    Golden("custom"),
    Golden("export", names=DEFAULT_FORMAT, exported=True),
    Golden("headerless", "copies/of logs.txt", "", "", None, "srcaddr dstaddr protocol bytes end action".split()),
)


def _write() -> None:
    for golden in GOLDEN:
        documents = [
            reference_document(record, at, BUCKET, golden.key, golden.account_id, golden.region, golden.slot_ms)
            for at, record in enumerate(golden.records())
        ]
        lines = [json.dumps(document, ensure_ascii=False, sort_keys=True) + "\n" for document in documents]
        (FOLDER / f"{golden.name}.ndjson").write_text("".join(lines))


if __name__ == "__main__":
    _write()
