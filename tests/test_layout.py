"""What the architecture promises of the modules themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "beam_flowlogs"
BEAM_EDGE = ("transforms", "run.py", "beam_options.py", "worker.py")
SOURCES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_beam_edge_imports_beam(path: Path) -> None:
    beam = {name for name in _imports(path) if name.split(".")[0] == "apache_beam"}

    assert not beam or path.relative_to(PACKAGE).parts[0] in BEAM_EDGE


def test_the_command_line_answers_without_importing_beam() -> None:
    import subprocess
    import sys

    script = "import sys; import beam_flowlogs.cli; sys.exit('apache_beam' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_module_says_what_it_holds() -> None:
    assert [path.name for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_step_labels_are_given_and_no_lambda_is_a_step() -> None:
    for path in (PACKAGE / "transforms").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("beam.Map", "beam.FlatMap", "beam.Filter"):
                assert not any(isinstance(argument, ast.Lambda) for argument in node.args), (
                    f"{path.name}: {node.lineno}"
                )
