"""What fuzzing has found stays fixed, and a short fuzz runs with every test; ``make fuzz`` runs a long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS as MAKE_SEEDS
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "fuzz/found"
SEEDS = {name: make() for name, make in MAKE_SEEDS.items()}

# In a process of its own: some of what was found did not raise but ended the process, in a library's native code.
REPLAY = """
import re, sys
from pathlib import Path
from tests.fuzz.targets import TARGETS
for name in sys.argv[1:]:
    print(name, flush=True)
    TARGETS[Path(name).parent.name](Path(name).read_bytes())
status = Path("/proc/self/status")
if status.exists():
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) >> 10
    assert peak < 400, f"{peak} MiB"
"""


def test_what_was_found_breaks_nothing_any_more() -> None:
    found = [str(path) for path in sorted(FOUND.glob("*/*"))]

    done = subprocess.run([sys.executable, "-c", REPLAY, *found], capture_output=True, text=True, check=False)

    assert found
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_taken(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@st.composite
def _mutants(draw: st.DrawFn, name: str) -> bytes:
    """Draw a seed with some bytes overwritten, taken out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS[name])))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 9))] = draw(
            st.binary(max_size=9) | st.sampled_from([b" ", b"-", b"\n", b"\r", b'"', b"\\", b"\xff\xff\xff\xff\x7f"])
        )
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutant_raises_nothing_but_the_decoders_own_errors(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(_mutants(name)))
