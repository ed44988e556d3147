from __future__ import annotations

import ast
from pathlib import Path

from worker.telemetry import signals

CONSTANTS: dict[str, str] = {name: value for name, value in vars(signals).items() if name.isupper()}


def test_no_two_names_of_a_kind_are_the_same() -> None:
    for kind in ("SPAN_", "GEN_AI_"):
        of_kind = [value for name, value in CONSTANTS.items() if name.startswith(kind)]
        assert len(set(of_kind)) == len(of_kind)


def test_every_name_of_our_own_is_explained() -> None:
    module = ast.parse(Path(signals.__file__).read_text())
    explained = set()
    for statement, following in zip(module.body, module.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            explained.add(ast.unparse(statement.target))
    # Those of the semantic conventions are explained there.
    assert {name for name in CONSTANTS if not name.startswith("GEN_AI_")} <= explained
