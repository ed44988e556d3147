"""Whether the models a definition asks for can be called, checked when it is stored and not at its first turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.storage.organizations import get_model_defaults
from worker.storage.secrets import list_secrets
from worker.workflow.model_configuration import (
    ModelConfiguration,
    configuration_problems,
    effective_configuration,
    keyed_choices,
)
from worker.workflow.problem import Problem

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from worker.workflow.definition import WorkflowDefinition

_PLACE: Final = "workflow_configurations.model_overrides"


async def model_problems(
    connection: AsyncConnection, *, organization_id: UUID, definition: WorkflowDefinition
) -> list[Problem]:
    """Find what would keep the definition's models from being called, given its organization's defaults and secrets.

    A definition that asks for nothing of its own is not looked at: the defaults were checked when they were set.
    """
    overrides = definition.workflow_configurations.model_overrides
    if overrides is None:
        return []
    stored = await get_model_defaults(connection, organization_id=organization_id)
    defaults = None if stored is None else ModelConfiguration.model_validate(stored)
    configuration = effective_configuration(defaults, overrides)
    problems = [
        Problem("workflow", None, f"{_PLACE}.{field}", message)
        for field, message in configuration_problems(configuration)
    ]
    if wanted := list(keyed_choices(configuration)):
        known = {secret.name for secret in await list_secrets(connection, organization_id=organization_id)}
        problems += [
            Problem(
                "workflow", None, f"{_PLACE}.{field}", f"The organization has no secret named {name!r}. Store it first."
            )
            for field, name, _ in wanted
            if name not in known
        ]
    return problems
