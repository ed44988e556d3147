"""Cancelling, policies for a second message, rewinding, forking, retrying, schedules, limits of sessions.

Deployment: pre
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns with defaults that mean what was so before, and a status that only the new release gives."""
    op.add_column("sessions", sa.Column("disposition", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("on_busy", sa.Text(), server_default=sa.text("'enqueue'"), nullable=False))
    op.add_column(
        "sessions", sa.Column("merge_window_seconds", sa.Float(), server_default=sa.text("2"), nullable=False)
    )
    op.add_column("sessions", sa.Column("idle_limit_seconds", sa.Float(), nullable=True))
    op.add_column("sessions", sa.Column("duration_limit_seconds", sa.Float(), nullable=True))
    op.add_column("sessions", sa.Column("check_limits_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("forked_from_session_id", sa.Uuid(), nullable=True))
    op.add_column("sessions", sa.Column("forked_from_turn_id", sa.Uuid(), nullable=True))
    op.create_check_constraint(
        op.f("ck_sessions_on_busy"),
        "sessions",
        "on_busy IN ('enqueue', 'reject', 'interrupt', 'replace', 'merge')",
    )
    op.create_index(
        "ix_sessions_limited", "sessions", ["check_limits_at"], postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "ix_sessions_ending",
        "sessions",
        ["id"],
        postgresql_where=sa.text("state = 'running' AND end_reason IS NOT NULL"),
    )

    op.alter_column("turns", "position", existing_type=sa.Integer(), nullable=True)
    op.add_column("turns", sa.Column("retry_of_turn_id", sa.Uuid(), nullable=True))
    op.add_column("turns", sa.Column("retry_root_turn_id", sa.Uuid(), nullable=True))
    op.add_column("turns", sa.Column("carries_over_turn_id", sa.Uuid(), nullable=True))
    op.add_column("turns", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.create_foreign_key("fk_turns_retry_of_turn_id", "turns", "turns", ["retry_of_turn_id"], ["id"])
    op.create_foreign_key("fk_turns_carries_over_turn_id", "turns", "turns", ["carries_over_turn_id"], ["id"])
    op.drop_constraint("ck_turns_status", "turns")
    op.create_check_constraint(
        op.f("ck_turns_status"),
        "turns",
        "status IN ('scheduled', 'pending', 'running', 'completed', 'failed', 'cancelled')",
    )
    op.create_check_constraint(
        op.f("ck_turns_position"), "turns", "position IS NOT NULL OR status IN ('scheduled', 'cancelled')"
    )
    op.create_check_constraint(
        op.f("ck_turns_schedule"), "turns", "status <> 'scheduled' OR (position IS NULL AND not_before IS NOT NULL)"
    )
    op.create_index("ix_turns_scheduled", "turns", ["not_before"], postgresql_where=sa.text("status = 'scheduled'"))
    op.create_index("ix_turns_session_id", "turns", ["session_id"], postgresql_where=sa.text("status = 'scheduled'"))
    for column in ("retry_of_turn_id", "carries_over_turn_id"):
        op.create_index(f"ix_turns_{column}", "turns", [column], postgresql_where=sa.text(f"{column} IS NOT NULL"))
