"""What is wrong with a workflow, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from worker.errors import TurnWorkerError

ProblemKind: TypeAlias = Literal["node", "edge", "workflow"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a workflow from being accepted.

    Attributes:
        kind: Whether a node, an edge or the workflow as a whole is concerned.
        id: Id of the node or edge; None for the workflow, and for a node or edge that has no id.
        field: Path of the field inside the node or edge, such as `data.prompt`; otherwise inside the workflow, such
            as `nodes.3.id`. None when no single field is to blame.
        message: What is wrong and what to do.
    """

    kind: ProblemKind
    id: str | None
    field: str | None
    message: str

    def __str__(self) -> str:
        place = self.kind if self.id is None else f"{self.kind} {self.id!r}"
        return f"{place}, {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node or an edge stands in its definition.

    Attributes:
        kind: Whether it is a node or an edge.
        position: Its place in the list, from 0.
        id: Its id, blank or None if it has none.
    """

    kind: Literal["node", "edge"]
    position: int
    id: str | None

    def problem(self, field: str | None, message: str) -> Problem:
        """Report something about it: by its id, or by its position when it has none.

        Args:
            field: Path of the field inside it; None when no single field is to blame.
            message: What is wrong and what to do.
        """
        if self.id is not None and self.id.strip():
            return Problem(self.kind, self.id, field, message)
        place = f"{self.kind}s.{self.position}"
        return Problem(self.kind, None, f"{place}.{field}" if field else place, message)


class InvalidWorkflow(TurnWorkerError):
    """A workflow cannot be accepted. Carries every problem found, not only the first."""

    code: ClassVar[str] = "invalid_workflow"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n- ".join([f"The workflow has {count}:", *map(str, self.problems)])
