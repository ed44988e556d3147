"""`turn-worker migrate`."""

from __future__ import annotations

import click

from worker.cli.servers import database_url, require_database
from worker.settings import load_settings
from worker.storage.migrate import migrate as apply_migrations


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; the exit status is 1 if there is something to apply.")
def migrate(*, check: bool) -> None:
    """Bring the database that DATABASE_URL names to the schema this version needs.

    It may run at any time, several times, and on several machines at once.
    """
    url = database_url(load_settings())
    if check:
        require_database(url)
        click.echo("The schema is up to date.")
        return
    before, after = apply_migrations(url)
    if before == after:
        click.echo(f"The schema is up to date, at revision {after}.")
    else:
        click.echo(f"The schema was at revision {before or 'none'} and is now at {after}.")
