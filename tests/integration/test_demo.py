"""The demo that the README begins with, as a newcomer runs it; its numbers are checked against the truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_flowlogs.cli.errors import INTERRUPTED
from beam_flowlogs.local.stack import FOREIGN_AWS_VARIABLES

pytestmark = pytest.mark.integration


def test_the_demo_shows_what_was_generated_and_stops_when_told(make_home: Callable[[], Path]) -> None:
    home = make_home()
    foreign = (*FOREIGN_AWS_VARIABLES, "AWS_ENDPOINT_URL", "ELASTICSEARCH_URL")
    variables = {name: value for name, value in os.environ.items() if name not in foreign}
    variables["FLOWLOGS_HOME"] = str(home)

    def flowlogs(*arguments: str, **more: str) -> str:
        command = [sys.executable, "-m", "beam_flowlogs.cli", *arguments]
        done = subprocess.run(command, env=variables | more, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        shown = flowlogs("demo", "--records", "20000", "--keep", "--home", str(home))
        stack = json.loads(flowlogs("local", "status", "--json"))["environment"]
        summary = json.loads(flowlogs("summary", "--json", **stack))
    finally:
        flowlogs("local", "down")

    truth = json.loads((home / "truth.json").read_text())
    rollups = truth["rollups"]["60s"]
    assert "20,000 raw documents" in shown
    assert f"{len(rollups):,} roll-ups equal the sums over 20,000 raw documents, exactly" in shown
    assert "_search?q=" in shown
    assert {"unanswered", "port-scan", "rejected-port", "silent", "skipdata", "bytes-spike"} <= set(shown.split())
    assert summary["documents"] == 20_000
    assert summary["by_status"] == {name: count for name, count in truth["by_status"].items() if count}
    assert summary["by_action"] == {
        "ACCEPT": sum(entry["accepted"]["flows"] for entry in rollups),
        "REJECT": sum(entry["rejected"]["flows"] for entry in rollups),
    }
    assert summary["rollups"] == len(rollups)
    assert summary["interfaces"] == _top_interfaces(rollups, summary["interfaces"])
    assert summary["comparison"]["rolled_up"] == summary["comparison"]["recounted"]


def test_a_demo_that_is_told_to_end_stops_its_stack(make_home: Callable[[], Path]) -> None:
    home = make_home()
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN_AWS_VARIABLES}
    command = [sys.executable, "-m", "beam_flowlogs.cli"]
    demo = subprocess.Popen([*command, "demo", "--records", "2000000", "--home", str(home)], env=variables)
    try:
        deadline = time.monotonic() + 300
        while not (home / "truth.json").exists():  # generated: the stack is up, and the pipeline is about to run
            assert demo.poll() is None
            assert time.monotonic() < deadline, "the demo has generated nothing"
            time.sleep(0.5)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(120) == INTERRUPTED
        status = [*command, "local", "status", "--home", str(home)]
        shown = subprocess.run(status, env=variables, capture_output=True, text=True, check=False)
        assert "running" not in shown.stdout
    finally:
        demo.kill()
        subprocess.run([*command, "local", "down", "--home", str(home)], env=variables, check=False)


def _top_interfaces(rollups: list[dict[str, Any]], shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The five busiest keys of the truth; account and region are not in it, so they are taken as shown."""
    totals: dict[str, dict[str, int]] = {}
    for entry in rollups:
        total = totals.setdefault(entry["key"], {"flows": 0, "bytes": 0, "rejected": 0})
        total["flows"] += entry["flows"]
        total["bytes"] += entry["bytes"]
        total["rejected"] += entry["rejected"]["flows"]
    busiest = sorted(totals, key=lambda key: -totals[key]["bytes"])[:5]
    named = {interface["key"]: interface for interface in shown}
    return [named[key] | {"key": key, **totals[key]} for key in busiest]
