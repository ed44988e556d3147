from __future__ import annotations

import ast
import re
from pathlib import Path

from worker.telemetry import names

CONSTANTS: dict[str, str] = {name: value for name, value in vars(names).items() if name.isupper()}


def test_every_name_stands_for_one_thing() -> None:
    assert len(set(CONSTANTS.values())) == len(CONSTANTS)


def test_every_constant_is_named_like_its_value() -> None:
    for name, value in CONSTANTS.items():
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", value)
        assert name == value.upper().replace(".", "_")


def test_every_name_is_explained() -> None:
    module = ast.parse(Path(names.__file__).read_text())
    explained = set()
    for statement, following in zip(module.body, module.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            explained.add(ast.unparse(statement.target))
    assert explained == CONSTANTS.keys()
