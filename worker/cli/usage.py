"""`turn-worker usage`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from worker.cli.servers import database_url, transaction
from worker.cli.tables import echo_table
from worker.settings import load_settings
from worker.storage.organizations import find_organization
from worker.storage.usage_report import GROUPINGS, organization_usage
from worker.turns.cost import priced
from worker.workflow.organization_settings import OrganizationSettings
from worker.workflow.prices import amount_text, load_prices

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.storage.usage_report import Grouping, UsageGroup
    from worker.turns.cost import PricedUsage
    from worker.workflow.prices import PriceList

_PAGE_GROUPS: Final = 1000
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.option("--org", "organization", required=True, metavar="NAME", help="Whose usage.")
@click.option("--from", "since", type=_DAY, help="From this day on (UTC).  [default: the last 30 days]")
@click.option("--to", "until", type=_DAY, help="Before this day (UTC).  [default: until now]")
@click.option("--group-by", type=click.Choice(GROUPINGS), default="day", show_default=True, help="One line for each.")
def usage(organization: str, since: datetime | None, until: datetime | None, group_by: Grouping) -> None:
    """Show what an organization's LLM calls used and cost, those of failed and cancelled turns included.

    Prices are the operator's (TURN_WORKER_PRICES_FILE) and those set for the organization (`org set NAME prices=...`).
    """
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    begin = since.replace(tzinfo=UTC) if since else end - timedelta(days=30)
    if begin >= end:
        raise click.BadParameter(f"It is not before {end:%Y-%m-%d}, where the time ends.", param_hint="--from")
    groups, prices = asyncio.run(_read(load_settings(), organization, begin, end, group_by))
    rows = [(group.key or "-", *_cells(priced(group.models, prices))) for group in groups]
    echo_table((group_by.upper(), "CALLS", "TOKENS", "COST", "WITHOUT A PRICE"), rows)


def _cells(used: PricedUsage) -> tuple[str, ...]:
    cost = used.cost
    amounts = "unknown" if cost is None else ", ".join(f"{amount_text(cost[name])} {name}" for name in sorted(cost))
    return f"{used.calls:,}", f"{used.total_tokens:,}", amounts, ", ".join(used.unpriced_models)


async def _read(
    settings: Settings, organization: str, since: datetime, until: datetime, group_by: Grouping
) -> tuple[list[UsageGroup], PriceList]:
    prices = load_prices(settings.prices_file)
    async with transaction(database_url(settings)) as connection:
        owner = await find_organization(connection, name=organization)
        groups: list[UsageGroup] = []
        is_full = True
        while is_full:
            page = await organization_usage(
                connection,
                organization_id=owner.id,
                since=since,
                until=until,
                group_by=group_by,
                limit=_PAGE_GROUPS,
                after=(groups[-1].key or "") if groups else None,
            )
            groups += page
            is_full = len(page) == _PAGE_GROUPS
    return groups, {**prices, **OrganizationSettings.model_validate(owner.settings).prices}
