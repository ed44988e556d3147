"""What all tables share: the metadata and the columns that occur in many of them.

Conventions: every row names its organization; ids are UUIDv7, made by the program; time is the database's
(`now()`); JSON that is only kept and handed back is `json`, which returns the very text that was stored.
"""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, Uuid, func, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column() -> Column[object]:
    """The row's id, a UUIDv7."""
    return Column("id", Uuid, primary_key=True)


def organization_column() -> Column[object]:
    """The organization that the row belongs to."""
    return Column("organization_id", Uuid, ForeignKey("organizations.id"), nullable=False)


def tenant_column() -> Column[object]:
    """The same without a foreign key, where rows are many: each insert would lock the organization's row against others'."""
    return Column("organization_id", Uuid, nullable=False)


def time_column(name: str, *, nullable: bool = True) -> Column[object]:
    """A moment, with its time zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def created_at_column() -> Column[object]:
    """When the row was written, by the database's clock."""
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def count_column(name: str) -> Column[object]:
    """A number that begins at nought."""
    return Column(name, Integer, nullable=False, server_default=text("0"))
