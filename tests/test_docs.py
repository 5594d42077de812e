"""The docs say what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DECODERS = (
    "inflate.py", "rows.py", "text_blocks.py", "text_rows.py", "parquet_rows.py", "parquet_columns.py",
    "parquet_pages.py", "index_object.py",
)  # fmt: skip
REJECTERS = (
    "notification.py", "s3_client.py", "object_parts.py", "transforms/announce.py", "transforms/read_notifications.py",
)  # fmt: skip
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


@pytest.mark.parametrize("name", ["commands.md", "records.md"])
def test_a_page_made_from_the_code_is_up_to_date(name: str) -> None:
    page = runpy.run_path(str(ROOT / "docs/reference.py"))["PAGES"][name]

    assert (ROOT / "docs" / name).read_text() == page(), f"docs/{name} is stale: run `make docs`"


def test_every_reason_for_which_a_decoder_rejects_is_explained() -> None:
    sources = "".join((ROOT / "beam_flowlogs" / name).read_text() for name in DECODERS)
    reasons = set(re.findall(r'DecodeError\(\s*"([a-z0-9-]+)"', sources))
    # A row's fault is a pair of reason and detail.
    reasons |= set(re.findall(r'[(=]\s*"([a-z0-9]+(?:-[a-z0-9]+)+)",', sources))
    reasons |= set(re.findall(r'return "([a-z0-9]+(?:-[a-z0-9]+)+)",', sources))
    page = (ROOT / "docs/records.md").read_text()

    assert len(reasons) > 20
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in page] == []


def test_every_other_reason_of_a_reject_is_explained() -> None:
    sources = "".join((ROOT / "beam_flowlogs" / name).read_text() for name in REJECTERS)
    reasons = set(re.findall(r'(?:Rejected|DecodeError)\(\s*"([a-z0-9-]+)"', sources))
    reasons |= set(re.findall(r'(?:Reject\("[a-z]+", |[=(]\s*\(?)"([a-z0-9]+(?:-[a-z0-9]+)+)",', sources))
    reasons |= {f"too-many-bad-{stage}s" for stage in ("row", "document")}
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("dead-letters.md", "records.md"))

    assert len(reasons) > 15
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in pages] == []


def test_every_option_explains_itself() -> None:
    page = runpy.run_path(str(ROOT / "docs/reference.py"))["commands_page"]()

    rows = [line for line in page.splitlines() if line.startswith("| `-")]
    assert len(rows) > 20
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_command_that_the_docs_show_exists() -> None:
    known = set(re.findall(r"^## (flowlogs [a-z ]+)$", (ROOT / "docs/commands.md").read_text(), re.MULTILINE))

    shown = {
        (page.name, f"flowlogs {words}")
        for page in PAGES
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
        for words in re.findall(r"^flowlogs ((?:local )?[a-z]+)", block, re.MULTILINE)
    }
    assert shown
    assert {(name, command) for name, command in shown if command not in known} == set()
