"""The names of the tests themselves."""

import ast
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODULES = sorted(TESTS.rglob("test_*.py"))
MOST = 50  #: characters; the sentence stands in the docstring


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_names_are_short_and_unique(module: Path):
    """A longer one can be neither selected nor read in a report, and the second of two alike hides the first."""
    tree = ast.parse(module.read_text("utf-8"))
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [name for name in names if name.startswith("test_")]
    assert [name for name in tests if len(name) > MOST] == []
    assert [name for name, count in Counter(tests).items() if count > 1] == []
