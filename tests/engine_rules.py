"""Ends the report of a test run with the rules of the engine's contract and how their tests went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

TESTS: Final = Path(__file__).parent
NOT_BUILT: Final = "not built yet"
_FROM_GOOD_TO_BAD: Final = ("passed", "skipped", "failed", "error")


def engine_rules() -> dict[str, dict[str, list[str]]]:
    """The tests of each rule by section and rule; a rule without tests is not built yet."""
    rules: dict[str, dict[str, list[str]]] = yaml.safe_load((TESTS / "engine_rules.yaml").read_text("utf-8"))
    return rules


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask for the table with `--engine-rules`; `make tests` does."""
    parser.addoption("--engine-rules", action="store_true", help="end with the engine's rules and their tests")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not terminalreporter.config.getoption("--engine-rules"):
        return
    outcomes = dict(_outcomes(terminalreporter))
    terminalreporter.section("rules of the engine")
    for section, of_section in engine_rules().items():
        terminalreporter.write_line(section)
        for rule, tests in of_section.items():
            terminalreporter.write_line(f"  [{verdict(tests, outcomes)}] {rule}")
            for test in tests:
                terminalreporter.write_line(f"      {outcomes.get(test, 'not run'):8} {test}")


def verdict(tests: list[str], outcomes: Mapping[str, str]) -> str:
    """Sum up the tests of one rule: the worst outcome counts."""
    if not tests:
        return NOT_BUILT
    found = {outcomes.get(test, "not run") for test in tests}
    return next(outcome for outcome in ("error", "failed", "not run", "skipped", "passed") if outcome in found)


def _outcomes(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, str]]:
    """The outcome of each test that ran; of the cases of one test, the worst."""
    for outcome in _FROM_GOOD_TO_BAD:
        for report in terminalreporter.stats.get(outcome, ()):
            yield report.nodeid.partition("[")[0].partition("@")[0].removeprefix("tests/"), outcome
