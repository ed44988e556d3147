"""`turn-worker validate`."""

from __future__ import annotations

import click

from worker.cli.documents import read_json
from worker.workflow.tool_use import tool_uses
from worker.workflow.validation import parse_definition


@click.command()
@click.argument("workflow", metavar="WORKFLOW.json")
def validate(workflow: str) -> None:
    """Check a workflow and name every problem in it, each with its place.

    WORKFLOW.json is a full definition or the bare graph that a visual editor exports; `-` reads standard input. The exit
    status is 0 if it can be used and 1 if not.
    """
    definition = parse_definition(read_json(workflow))
    graph = definition.graph
    click.echo(f"The workflow is valid: {len(graph.nodes)} nodes, {len(graph.edges)} edges.")
    if mentioned := {use.written for use in tool_uses(definition)}:
        count = "1 tool" if len(mentioned) == 1 else f"{len(mentioned)} tools"
        click.echo(f"It mentions {count}. Whether they exist, and their names fit, is checked when it is stored.")
