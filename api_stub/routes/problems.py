"""What each type of problem means: the pages that the `type` of an error leads to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.exceptions import HTTPException

from api_stub import schemas
from api_stub.answers import respond
from api_stub.documentation import answers
from api_stub.problems import CATALOGUE, ProblemType

router = APIRouter(prefix="/problems", tags=["problems"])


@router.get("", responses=answers({200: (schemas.ProblemExplanations, "All types of problems.")}, public=True))
async def list_problems() -> Response:
    """List every type of problem that this API answers with."""
    return respond({"data": [_show(type_) for type_ in CATALOGUE.values()]})


@router.get(
    "/{name}",
    responses=answers(
        {200: (schemas.ProblemExplanation, "The type of problem.")}, "not_found", "invalid_request", public=True
    ),
)
async def explain_problem(name: Annotated[str, Path(max_length=100)]) -> Response:
    """Explain one type of problem."""
    type_ = CATALOGUE.get(name.replace("-", "_"))
    if type_ is None:
        raise HTTPException(404)
    return respond(_show(type_))


def _show(type_: ProblemType) -> dict[str, object]:
    return {
        "type": type_.uri,
        "code": type_.code,
        "status": type_.status,
        "title": type_.title,
        "explanation": type_.explanation,
    }
