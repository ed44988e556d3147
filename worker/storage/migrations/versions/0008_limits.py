"""Settings of organizations; limits, priorities and a fair backlog; retention.

Deployment: pre
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def upgrade() -> None:
    """Columns with defaults that mean what was so before, and the tables of what there is to share."""
    op.add_column("organizations", sa.Column("settings", sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
    _backlog()
    _capacity()
    _erasure()


def _backlog() -> None:
    op.add_column("turns", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("turns", sa.Column("waiting", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("turns", sa.Column("running_slot", sa.Integer(), nullable=True))
    op.create_index(
        "uq_turns_running_slot",
        "turns",
        ["organization_id", "running_slot"],
        unique=True,
        postgresql_where=sa.text("status = 'running' AND running_slot IS NOT NULL"),
    )
    op.drop_index("ix_turns_pending", "turns")
    op.create_index(
        "ix_turns_pending",
        "turns",
        ["organization_id", "available_at"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_turns_rung",
        "turns",
        ["rung_at"],
        postgresql_where=sa.text("status = 'pending' AND rung_at IS NOT NULL"),
    )
    op.create_index(
        "ix_turns_waiting",
        "turns",
        ["organization_id", sa.text("priority DESC"), "available_at", "id"],
        postgresql_where=sa.text("status = 'pending' AND waiting"),
    )


def _capacity() -> None:
    op.create_table(
        "worker_processes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker_processes"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "enqueue_rates",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("available", sa.Float(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_enqueue_rates"),
    )


def _erasure() -> None:
    op.drop_constraint("fk_usage_entries_turn_id", "usage_entries")
    op.drop_constraint("fk_sessions_head_turn_id", "sessions")
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"], postgresql_using="brin")
    op.create_index("ix_journal_steps_created_at", "journal_steps", ["created_at"], postgresql_using="brin")
