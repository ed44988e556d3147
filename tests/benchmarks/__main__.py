"""`python -m tests.benchmarks`: measure everything, print a table, write `benchmarks.json`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import click

from tests.benchmarks.end_to_end import (
    calling,
    llm_url,
    measure_in_flight,
    measure_latency,
    measure_storage,
    measure_throughput,
    running_stack,
)
from tests.benchmarks.metric import METRICS

ROOT = Path(__file__).parents[2]


def engine() -> dict[str, float]:
    """The engine's figures, measured in a process of its own that has done nothing else."""
    command = [sys.executable, "-m", "tests.benchmarks.engine"]
    printed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(value) for name, value in re.findall(r"^(\w+) +([\d.-]+)$", printed, re.MULTILINE)}


async def end_to_end(*, quick: bool) -> dict[str, float]:
    """The figures of the whole system."""
    with running_stack(workers=2) as stack:
        async with calling(stack) as caller:
            click.echo("Measuring latency ...", err=True)
            results = await measure_latency(caller, 50 if quick else 300)
            click.echo("Measuring throughput ...", err=True)
            results |= await measure_throughput(caller, 3 if quick else 15)
            click.echo("Measuring storage ...", err=True)
            results |= await measure_storage(caller)
    with running_stack(workers=1, concurrency=1000) as stack:
        async with calling(stack) as caller:
            click.echo("Measuring turns in flight ...", err=True)
            results |= await measure_in_flight(caller, llm_url(stack))
    return results


def table(results: dict[str, float]) -> str:
    """The figures beside what they aim at, then where the CPU time of a turn goes."""
    lines = [f"{'metric':32} {'value':>10} {'unit':6} {'aim':>9}"]
    for metric in METRICS:
        value = results[metric.name]
        aim = "" if metric.aim is None else f"{metric.aim[0]} {metric.aim[1]:g}"
        reached = {None: "", True: "reached", False: "MISSED"}[metric.reached(value)]
        lines.append(f"{metric.name:32} {value:10.2f} {metric.unit:6} {aim:>9} {reached}".rstrip())
    lines += ["", "CPU of a turn under full load, in ms:"]
    lines += [
        f"  {name.removeprefix('cpu_ms_per_turn_'):30} {value:10.2f}"
        for name, value in results.items()
        if "cpu_ms_per_turn_" in name
    ]
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="A short run, to see that everything works.")
def main(*, quick: bool) -> None:
    """Measure everything, print a table and write benchmarks.json."""
    click.echo("Measuring the engine ...", err=True)
    results = engine() | asyncio.run(end_to_end(quick=quick))
    figures = {
        metric.name: {"value": round(results[metric.name], 4), "unit": metric.unit, "how": metric.how}
        for metric in METRICS
    }
    (ROOT / "benchmarks.json").write_text(json.dumps(figures, indent=2) + "\n")
    click.echo(table(results))


if __name__ == "__main__":
    main()
