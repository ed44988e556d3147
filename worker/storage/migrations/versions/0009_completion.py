"""What is done once when a session ends, and once before it is opened.

Deployment: pre
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the work at sessions' ends with its deliveries, and note when initial context was fetched."""
    op.add_column("sessions", sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "session_completions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gathered_context", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed')", name=op.f("ck_session_completions_status")
        ),
        sa.CheckConstraint(
            "(status = 'running') = (lease_expires_at IS NOT NULL)", name=op.f("ck_session_completions_lease")
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed')) = (ended_at IS NOT NULL)", name=op.f("ck_session_completions_ended")
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_session_completions_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_session_completions"),
        sa.UniqueConstraint("session_id", name="uq_session_completions_session_id"),
    )
    op.create_index(
        "ix_session_completions_open",
        "session_completions",
        ["available_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running')"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("completion_id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('retrying', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_status")),
        sa.ForeignKeyConstraint(
            ["completion_id"],
            ["session_completions.id"],
            name="fk_webhook_deliveries_completion_id",
        ),
        sa.PrimaryKeyConstraint("completion_id", "node_id", name="pk_webhook_deliveries"),
    )
