from __future__ import annotations

import re
from pathlib import Path

from worker.embedded import scripted_llm
from worker.embedded.scripted_llm import Script

README = (Path(scripted_llm.__file__).parent / "README.md").read_text()


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_the_python_example_of_the_readme_does_what_it_says() -> None:
    exec(compile(example("python"), "README.md", "exec"), {})


def test_the_script_of_the_readme_is_valid() -> None:
    assert len(Script.from_json(example("json"), source="in the README").rules) == 4
