"""Every name that a benchmark takes from this project exists, wherever in its file it is imported."""

import ast
import importlib
from pathlib import Path

import pytest
from conftest import CHECKOUT

BENCHMARKS = sorted((CHECKOUT / "benchmarks").glob("*.py"))


def imports_of(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from tda... import ...`."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in nodes if node.module.startswith("tda") for alias in node.names]


def test_the_benchmarks_are_found():
    assert len(BENCHMARKS) > 10 and sum(len(imports_of(path)) for path in BENCHMARKS) > 40


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_imported_names_exist(path: Path):
    missing = [f"{module}.{name}" for module, name in imports_of(path) if not hasattr(importlib.import_module(module), name)]
    assert missing == []
