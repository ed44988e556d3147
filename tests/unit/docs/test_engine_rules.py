"""The table of the engine's rules names tests that exist."""

from __future__ import annotations

import ast

import pytest

from tests.engine_rules import NOT_BUILT, TESTS, engine_rules, verdict

NAMED = [test for section in engine_rules().values() for tests in section.values() for test in tests]


@pytest.mark.parametrize("test", NAMED)
def test_every_rule_names_tests_that_exist(test: str) -> None:
    path, _, name = test.partition("::")

    module = ast.parse((TESTS / path).read_text("utf-8"))

    assert name in {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_no_rule_stands_twice() -> None:
    """Of two with one name YAML keeps the last: the tests of the first would go unreported."""
    lines = (TESTS / "engine_rules.yaml").read_text("utf-8").splitlines()
    rules = [line for line in lines if line.startswith("  ") and not line.startswith("    ")]

    assert len(rules) == sum(len(section) for section in engine_rules().values())


def test_a_rule_is_as_good_as_its_worst_test() -> None:
    outcomes = {"a": "passed", "b": "failed"}

    assert verdict(["a"], outcomes) == "passed"
    assert verdict(["a", "b"], outcomes) == "failed"
    assert verdict(["a", "c"], outcomes) == "not run"
    assert verdict([], outcomes) == NOT_BUILT
